"""The root half does what it is asked by who may ask, undoes what it holds when they die, and minds no rubbish."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homelab_agent.core import process
from homelab_agent.core.errors import Exit
from homelab_agent.core.health import State
from homelab_agent.core.privilege import PrivilegedUnavailable, VerbFailed, VerbRefused
from homelab_agent.privileged import frames
from homelab_agent.privileged.client import Client
from tests import user
from tests.clock import until as until_async
from tests.neighbours.neighbour import need_root
from tests.processes import is_alive
from tests.waiting import until

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "tests.root_half"]


@pytest.fixture(autouse=True)
def _where_verbs_write(open_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMELAB_AGENT_TEST_HALF", str(open_directory))
    monkeypatch.chdir(ROOT)


@asynccontextmanager
async def client(directory: Path, *words: str, command: Sequence[str] = COMMAND) -> AsyncIterator[Client]:
    made = Client(directory, [*command, *words], service=directory / "none")
    running = asyncio.create_task(made.run())
    await asyncio.sleep(0)
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_call_brings_its_arguments_descriptors_lines_and_answer(open_directory: Path) -> None:
    lines: list[tuple[str, str]] = []
    token = process.readable(b"a token")
    async with client(open_directory) as half:
        answer = await half.call(
            "echo",
            deadline=20,
            descriptors=[token],
            on_line=lambda stream, line: lines.append((stream, line)),
            word="one",
            sha="a" * 40,
            lines=3,
        )
    os.close(token)
    assert answer["arguments"] == {"word": "one", "sha": "a" * 40, "lines": 3}
    assert answer["given"] == ["a token"]
    assert lines == [("stdout", f"line {number}") for number in range(3)]
    assert not (open_directory / "privileged.sock").exists()


@pytest.mark.parametrize(
    ("verb", "arguments", "reason"),
    [
        ("nothing", {}, "there is no verb 'nothing'"),
        ("echo", {}, "echo needs word"),
        ("echo", {"word": "three"}, "word of echo must be a name"),
        ("echo", {"word": ["one"]}, "word of echo must be a name"),
        ("echo", {"word": "one", "sha": "--upload-pack=x"}, "sha of echo must be 40 or 64"),
        ("echo", {"word": "one", "sha": "A" * 40}, "sha of echo must be 40 or 64"),
        ("echo", {"word": "one", "lines": True}, "lines of echo must be a whole number"),
        ("echo", {"word": "one", "more": 1}, "echo has no argument 'more'"),
    ],
)
async def test_what_is_not_in_the_closed_set_is_refused(
    open_directory: Path, verb: str, arguments: dict[str, Any], reason: str
) -> None:
    async with client(open_directory) as half:
        with pytest.raises(VerbRefused, match=reason):
            await half.call(verb, deadline=20, **arguments)


async def test_an_error_there_reads_as_one_here(open_directory: Path) -> None:
    async with client(open_directory) as half:
        with pytest.raises(VerbFailed) as caught:
            await half.call("fail", deadline=20)
        assert (caught.value.message, caught.value.cause) == ("The wood is too wet.", "rain")
        assert (caught.value.repair, caught.value.exit_code) == ("dry the wood", Exit.BUSY)
        with pytest.raises(VerbRefused, match="unexpected: ZeroDivisionError"):
            await half.call("wrong", deadline=20)
        assert await half.call("echo", deadline=20, word="one")


async def test_calls_run_side_by_side_in_one_half(open_directory: Path) -> None:
    async with client(open_directory) as half:
        hanging = asyncio.create_task(half.call("hang", deadline=30))
        await until_async((open_directory / "hangs").exists, "it hangs")
        answers = await asyncio.gather(*(half.call("echo", deadline=20, word="two") for _ in range(20)))
        assert len({answer["pid"] for answer in answers}) == 1
        hanging.cancel()
        await until_async(lambda: not (open_directory / "hangs").exists(), "it was ended")


async def test_a_call_that_takes_too_long_is_ended(open_directory: Path) -> None:
    async with client(open_directory) as half:
        await half.call("echo", deadline=20, word="one")
        with pytest.raises(VerbFailed, match=r"longer than 0\.5 s"):
            await half.call("hang", deadline=0.5)
        await until_async(lambda: not (open_directory / "hangs").exists(), "it was ended")


async def test_a_lease_holds_until_it_is_let_go(open_directory: Path) -> None:
    taken = open_directory / "taken"
    async with client(open_directory) as half:
        async with half.lease("take", deadline=20) as held:
            assert held == {"took": "it"}
            assert taken.exists()
        assert not taken.exists(), "it is given back before the context has ended"
        with pytest.raises(KeyError):
            async with half.lease("take", deadline=20):
                raise KeyError
        await until_async(lambda: not taken.exists(), "it is given back all the same")


async def test_the_half_that_stops_gives_back_what_it_holds(open_directory: Path) -> None:
    async with client(open_directory) as half:
        pid = (await half.call("echo", deadline=20, word="one"))["pid"]
        async with half.lease("take", deadline=20):
            os.kill(pid, signal.SIGTERM)
            await until_async(lambda: not (open_directory / "taken").exists(), "it is given back")
        await until_async(lambda: not is_alive(pid), "it has ended")


AGENT = """
import asyncio, sys
from pathlib import Path
from typing import Any
from homelab_agent.privileged.client import Client
async def main():
    half = Client(Path(sys.argv[1]), [sys.executable, "-m", "tests.root_half"], service=Path("/none"))
    answer = await half.call("echo", deadline=20, word="one")
    async with half.lease("take", deadline=20):
        print(answer["pid"], flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def test_when_the_agent_is_killed_what_was_held_is_given_back_and_the_half_ends(open_directory: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", AGENT, open_directory], stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        pid = int(agent.stdout.readline())
        assert (open_directory / "taken").exists()
        agent.kill()
    until(lambda: not (open_directory / "taken").exists(), "it is given back")
    until(lambda: not is_alive(pid), "the half has ended")


async def test_a_half_that_dies_fails_the_call_and_the_next_call_has_a_new_one(open_directory: Path) -> None:
    async with client(open_directory) as half:
        before = await half.call("echo", deadline=20, word="one")
        with pytest.raises(VerbFailed, match="ended while it did crash"):
            await half.call("crash", deadline=20)
        after = await half.call("echo", deadline=20, word="one")
        assert before["pid"] != after["pid"]


async def test_at_rest_there_is_no_half_and_no_call_is_lost_to_its_going(open_directory: Path) -> None:
    async with client(open_directory, "--idle", "0.01") as half:
        pids = [(await half.call("echo", deadline=20, word="one"))["pid"] for _ in range(8)]
        await until_async(lambda: not is_alive(pids[-1]), "it has ended")
        assert len(set(pids)) >= 1
        assert await half.call("echo", deadline=20, word="one")


async def test_one_that_cannot_start_is_told(open_directory: Path) -> None:
    async with client(open_directory, command=["/nonexistent/program"]) as half:
        with pytest.raises(PrivilegedUnavailable, match="No such file"):
            await half.call("echo", deadline=5, word="one")
        assert (await half.probe()).state is (State.OK if os.geteuid() == 0 else State.NOT_AVAILABLE)


async def test_as_root_it_does_things_as_another(open_directory: Path) -> None:
    need_root("to be another user")
    async with client(open_directory) as half:
        assert await half.call("whoami", deadline=20) == {"name": "nobody"}


CALLER = """
import asyncio, sys
from pathlib import Path
from typing import Any
from homelab_agent.privileged.client import Client
half = Client(Path("/none"), [], service=Path(sys.argv[1]))
try:
    print(asyncio.run(half.call("echo", deadline=20, word="one"))["arguments"])
except Exception as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize(("welcome", "said"), [(True, "{'word': 'one'}"), (False, "VerbFailed")])
def test_only_who_may_is_served(open_directory: Path, *, welcome: bool, said: str) -> None:
    path = open_directory / "half.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen()
        who = ["--user", str(user.UID)] if welcome else []
        words = [*COMMAND, "--listener", str(listener.fileno()), *who]
        with subprocess.Popen(words, pass_fds=[listener.fileno()]) as half:
            try:
                asked = user.ordinary([sys.executable, "-c", CALLER, str(path)])
                done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60)
            finally:
                half.kill()
    assert done.stdout.strip() == said, done.stderr


@pytest.fixture(scope="module")
def rubbish_taker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A half that everybody may send rubbish to: its socket and its process."""
    path = tmp_path_factory.mktemp("half") / "half.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(64)
        words = [*COMMAND, "--listener", str(listener.fileno())]
        with subprocess.Popen(words, pass_fds=[listener.fileno()], cwd=ROOT, stdout=subprocess.DEVNULL) as half:
            yield path, half.pid
            half.kill()


def answers(path: Path) -> bool:
    """Return whether a proper call is answered."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(30)
        connection.connect(str(path))
        connection.sendall(frames.encode({"verb": "echo", "arguments": {"word": "one"}}))
        return b'"answer"' in connection.recv(4096)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
CALLS = st.fixed_dictionaries({"verb": JSON | st.just("echo"), "arguments": JSON})
SENT = st.one_of(
    st.binary(max_size=200),
    CALLS.map(frames.encode),
    JSON.map(lambda said: frames.encode({"said": said})),
    st.integers(0, 2**32 - 1).map(lambda length: length.to_bytes(4, "big") + b"{}"),
    st.just(len(b"[" * 9_000).to_bytes(4, "big") + b"[" * 9_000),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=SENT, files=st.integers(0, 12), half_closed=st.booleans())
def test_rubbish_neither_ends_it_nor_stays_open(
    rubbish_taker: tuple[Path, int], sent: bytes, files: int, *, half_closed: bool
) -> None:
    path, pid = rubbish_taker
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(30)
        connection.connect(str(path))
        with suppress(ConnectionError):  # it may cut off who sends rubbish
            if sent:
                socket.send_fds(connection, [sent], [0] * files)
            if half_closed:
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    continue
    assert is_alive(pid)


def test_after_the_rubbish_it_answers_and_has_no_descriptor_left_over(rubbish_taker: tuple[Path, int]) -> None:
    path, pid = rubbish_taker
    assert answers(path)
    descriptors = Path(f"/proc/{pid}/fd")
    until(lambda: len(list(descriptors.iterdir())) < 16, "what came with the rubbish is closed", seconds=15)


def test_who_drips_keeps_nobody_else_waiting(rubbish_taker: tuple[Path, int]) -> None:
    path, _ = rubbish_taker
    drips = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(40)]
    try:
        for drip in drips:
            drip.connect(str(path))
            drip.sendall(b"\0")
        assert answers(path)
        drips[0].settimeout(30)
        assert drips[0].recv(1) == b"", "it was cut"
    finally:
        for drip in drips:
            drip.close()
