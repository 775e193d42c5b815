"""Whatever comes over its socket, the root half goes on, keeps nothing of it, and does nothing that was not asked."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from homelab_agent.core.privilege import DESCRIPTORS_MAX
from homelab_agent.privileged import frames
from homelab_agent.privileged.server import CONNECTIONS_MAX
from tests.processes import is_alive
from tests.root_half import Unit, ask, hear, notes
from tests.waiting import until

MANY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def unit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unit]:
    made = Unit(tmp_path_factory.mktemp("half")).start()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def _nothing_came_of_it(unit: Unit) -> Iterator[None]:
    """After each test: it is the same process, serves, holds no descriptor more, and did nothing."""
    before = descriptors(unit)
    yield
    assert serves(unit)
    assert notes(unit.path.parent) == []
    until(lambda: descriptors(unit) == before, "what came with the rubbish is closed")


def serves(unit: Unit) -> bool:
    """Return whether a proper call is answered."""
    with unit.connect() as connection:
        ask(connection, "echo", word="one")
        return bool(hear(connection)[-1]["answer"]["pid"] == unit.pid)


def descriptors(unit: Unit) -> int:
    """Return how many the process has open when it serves nobody."""
    assert serves(unit)
    return len(list(Path(f"/proc/{unit.pid}/fd").iterdir()))


def send(connection: socket.socket, data: bytes, files: int = 0) -> None:
    """Send what may not be wanted any more, with so many descriptors."""
    with suppress(ConnectionError):
        socket.send_fds(connection, [data], [0] * files)


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


TEXT = st.text(max_size=20) | st.sampled_from(["verb", "arguments", "word", "sha", "one", "mark", "a" * 40, "A" * 40])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
)
NEARLY_ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "word": JSON | st.sampled_from(["one", "two", "One", "one\n", ["one"]]),
        "sha": JSON | st.from_regex(r"[0-9a-fA-F]{38,66}\n?", fullmatch=True),
        "verb": JSON,
    },
)
NEARLY_CALLS = st.fixed_dictionaries({"verb": JSON | st.just("mark"), "arguments": JSON | NEARLY_ARGUMENTS})
BODIES = st.one_of(
    st.binary(max_size=200),
    JSON.map(lambda said: frames.encode({"said": said})[4:]),
    NEARLY_CALLS.map(lambda call: frames.encode(call)[4:]),
    st.sampled_from([b"[" * 60_000, b'{"verb":' * 8_000, b"1" * 60_000, b'{"verb":"\\ud800"}', b"\xff\xfe", b""]),
)


def is_proper(body: bytes) -> bool:
    """Return whether a request would be done, by the words of what the verb `mark` says it takes."""
    try:
        message: Any = frames.decode(body)
    except frames.NotAFrame:
        return False
    arguments = message.get("arguments")
    return (
        message.keys() == {"verb", "arguments"}
        and message["verb"] == "mark"
        and isinstance(arguments, dict)
        and arguments.keys() == {"word", "sha"}
        and arguments["word"] in ("one", "two")
        and isinstance(arguments["sha"], str)
        and re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", arguments["sha"]) is not None
    )


@MANY
@given(body=BODIES, files=st.integers(0, 12), after=st.sampled_from([b"", frames.GO, frames.GO * 9]))
def test_what_is_no_call_is_refused_or_cut_off(unit: Unit, body: bytes, files: int, after: bytes) -> None:
    assume(not is_proper(body))
    with unit.connect() as connection:
        send(connection, frame(body) + after, files)
        said = hear(connection)
    assert [list(message) for message in said] in ([], [["refused"]])
    assert is_alive(unit.pid)


@MANY
@given(data=st.binary(max_size=300), pieces=st.lists(st.integers(1, 60), max_size=8), files=st.integers(0, 3))
def test_bytes_that_are_no_frame_are_cut_off_however_they_come(
    unit: Unit, data: bytes, pieces: list[int], files: int
) -> None:
    assume(not is_proper(data[4:]))
    with unit.connect() as connection:
        for size in pieces:
            part, data = data[:size], data[size:]
            if part:
                send(connection, part, files)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        assert [message for message in hear(connection) if "refused" not in message] == []


@pytest.mark.parametrize("length", [frames.REQUEST_MAX + 1, 2**31, 2**32 - 1])
def test_a_length_that_nobody_means_is_cut_off_before_anything_is_read(unit: Unit, length: int) -> None:
    with unit.connect() as connection:
        connection.sendall(length.to_bytes(4, "big"))
        assert hear(connection) == []


def test_the_longest_request_is_read(unit: Unit) -> None:
    empty = len(frames.encode({"verb": ""})) - 4
    with unit.connect() as connection:
        send(connection, frames.encode({"verb": "x" * (frames.REQUEST_MAX - empty)}))
        assert "refused" in hear(connection)[-1]


@pytest.mark.parametrize("files", [DESCRIPTORS_MAX, DESCRIPTORS_MAX + 1, 200])
def test_no_more_descriptors_are_taken_than_may_be(unit: Unit, files: int) -> None:
    with unit.connect() as connection, Path("/proc/version").open("rb") as file:
        whole = frames.encode({"verb": "echo", "arguments": {"word": "one"}}) + frames.GO
        socket.send_fds(connection, [whole], [file.fileno()] * files)
        said = hear(connection)
    assert bool(said) == (files <= DESCRIPTORS_MAX)


def test_descriptors_that_come_in_turns_are_counted_together(unit: Unit) -> None:
    with unit.connect() as connection:
        for byte in frames.encode({"verb": "echo", "arguments": {"word": "one"}})[: DESCRIPTORS_MAX + 1]:
            send(connection, bytes([byte]), 1)
        assert hear(connection) == []


def test_without_a_go_ahead_nothing_is_done(unit: Unit) -> None:
    request = frames.encode({"verb": "mark", "arguments": {"word": "one", "sha": "a" * 40}})
    for after in (b"", b"\0", b"-"):
        with unit.connect() as connection:
            connection.sendall(request + after)
            if not after:
                connection.shutdown(socket.SHUT_WR)
            assert hear(connection) == [{"ready": {}}]


def test_who_says_more_than_a_call_ends_it(unit: Unit) -> None:
    with unit.connect() as connection:
        ask(connection, "hang")
        until(lambda: b"hangs" in connection.recv(4096, socket.MSG_PEEK), "it hangs")
        ask(connection, "mark", word="one", sha="a" * 40)
        assert hear(connection)[-1]["failed"]["message"] == "hang was ended before it was done."
    until(lambda: notes(unit.path.parent) == ["hangs", "hangs no more"], "it has ended")
    (unit.path.parent / "notes").unlink()


def test_who_drips_keeps_nobody_else_waiting(unit: Unit) -> None:
    with ExitStack() as stack:
        drips = [stack.enter_context(unit.connect()) for _ in range(CONNECTIONS_MAX - 1)]
        for number, drip in enumerate(drips):
            drip.sendall(frames.encode({"verb": "mark"})[: number % 12])
        assert serves(unit)
        dripping = threading.Thread(target=drip_on, args=(drips[0],))
        dripping.start()
        for drip in drips:
            assert hear(drip) == [], "it was cut off"
        dripping.join()


def drip_on(connection: socket.socket) -> None:
    """Send a byte now and then until we are cut off."""
    with suppress(ConnectionError):
        for _ in range(600):
            connection.sendall(b"\0")
            threading.Event().wait(0.05)


def test_more_at_once_than_are_served_are_served_in_turn(unit: Unit) -> None:
    answers: list[bool] = []

    def call(number: int) -> None:
        with unit.connect() as connection:
            match number % 4:
                case 0:
                    send(connection, frame(os.urandom(50)), 3)
                    answers.append(hear(connection) == [])
                case 1:
                    connection.sendall(b"\0\0")
                    connection.shutdown(socket.SHUT_WR)
                    answers.append(hear(connection) == [])
                case _:
                    ask(connection, "echo", word="two", lines=20)
                    answers.append(len(hear(connection)) == 22)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(200)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert answers == [True] * 200


def test_silence_does_not_keep_others_out_for_ever(unit: Unit) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(unit.connect()) for _ in range(CONNECTIONS_MAX + 20)]
        assert serves(unit)
        assert hear(silent[0]) == []


def test_output_that_is_not_read_in_time_is_left_out_and_that_is_said(unit: Unit) -> None:
    before = memory(unit)
    with unit.connect() as connection:
        ask(connection, "flood")
        assert serves(unit), "nobody else waits for that"
        spent: list[str] = []

        def is_idle() -> bool:
            spent.append(cpu(unit))
            return len(spent) >= 20 and len(set(spent[-20:])) == 1

        until(is_idle, "it has said all")
        said = hear(connection)
    assert said[-1] == {"answer": {}}
    assert "lines left out" in str(said[-2])
    assert memory(unit) - before < 16 * 1024, "KiB"


def test_a_last_word_that_nobody_hears_is_not_kept(unit: Unit) -> None:
    at_rest = descriptors(unit)
    with unit.connect() as connection:
        ask(connection, "flood")
        assert descriptors(unit) > at_rest
        until(lambda: descriptors(unit) == at_rest, "it was cut off", seconds=30)


def cpu(unit: Unit) -> str:
    """Return what the process has used of the processor, in ticks."""
    return Path(f"/proc/{unit.pid}/stat").read_text().rpartition(")")[2].split()[11]


def memory(unit: Unit) -> int:
    """Return the process's greatest resident size yet, in KiB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{unit.pid}/status").read_text())
    assert found is not None
    return int(found[1])
