"""The root half does what it is asked by who may ask, and gives back what it holds, whoever dies."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.core import process
from homelab_agent.core.errors import Exit
from homelab_agent.core.health import State
from homelab_agent.core.privilege import PrivilegedUnavailable, VerbCutShort, VerbFailed, VerbRefused
from homelab_agent.privileged.client import Client
from tests import root_half, user
from tests.clock import until as until_async
from tests.neighbours.neighbour import need_root
from tests.processes import is_alive
from tests.root_half import ROOT, Unit, ask, asking, hear, notes
from tests.waiting import until


@pytest.fixture(autouse=True)
def _where_verbs_write(open_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(root_half.VARIABLE, str(open_directory))
    monkeypatch.chdir(ROOT)


async def test_a_call_brings_its_arguments_descriptors_lines_and_answer(open_directory: Path) -> None:
    lines: list[tuple[str, str]] = []
    token = process.readable(b"a token")
    async with asking(open_directory) as half:
        answer = await half.call(
            "echo",
            deadline=20,
            descriptors=[token],
            on_line=lambda stream, line: lines.append((stream, line)),
            word="one",
            sha="a" * 40,
            lines=3,
            loud=True,
        )
        assert (open_directory / "privileged.sock").stat().st_mode & 0o777 == 0o600
    os.close(token)
    assert answer["arguments"] == {"word": "one", "sha": "a" * 40, "lines": 3, "loud": True}
    assert answer["given"] == ["a token"]
    assert lines == [("stdout", f"line {number}") for number in range(3)]
    assert not (open_directory / "privileged.sock").exists()


@pytest.mark.parametrize(
    ("verb", "arguments", "reason"),
    [
        ("nothing", {}, "there is no verb 'nothing'"),
        ("echo", {}, "echo needs word"),
        ("echo", {"word": "three"}, "word of echo must be a name"),
        ("echo", {"word": "one", "sha": "--upload-pack=x"}, "sha of echo must be 40 or 64"),
        ("echo", {"word": "one", "more": 1}, "echo has no argument 'more'"),
        ("refuse", {}, "not on a Sunday"),
        ("echo", {"word": b"one"}, "not JSON serializable"),
        ("echo", {"word": "one" * 30_000}, "at most 65536 can be sent"),
    ],
)
async def test_what_is_not_in_the_closed_set_is_refused(
    open_directory: Path, verb: str, arguments: dict[str, Any], reason: str
) -> None:
    async with asking(open_directory) as half:
        with pytest.raises(VerbRefused, match=reason):
            await half.call(verb, deadline=20, **arguments)


async def test_more_descriptors_than_a_call_may_have_are_refused(open_directory: Path) -> None:
    async with asking(open_directory) as half:
        with pytest.raises(VerbRefused, match="9 descriptors are more than 8"):
            await half.call("echo", deadline=20, descriptors=[0] * 9, word="one")


async def test_an_error_there_reads_as_one_here(open_directory: Path) -> None:
    async with asking(open_directory) as half:
        with pytest.raises(VerbFailed) as caught:
            await half.call("fail", deadline=20)
        assert (caught.value.message, caught.value.cause) == ("The wood is too wet.", "rain")
        assert (caught.value.repair, caught.value.exit_code) == ("dry the wood", Exit.BUSY)


@pytest.mark.parametrize(
    ("verb", "cause"), [("wrong", "ZeroDivisionError"), ("unspeakable", "TypeError"), ("endless", "at most 1048576")]
)
async def test_a_verb_that_is_at_fault_fails_its_call_alone(open_directory: Path, verb: str, cause: str) -> None:
    async with asking(open_directory) as half:
        before = await half.call("echo", deadline=20, word="one")
        with pytest.raises(VerbFailed, match=cause) as caught:
            await half.call(verb, deadline=20)
        assert caught.value.repair.startswith("journalctl")
        assert (await half.call("echo", deadline=20, word="one"))["pid"] == before["pid"]


async def test_while_there_are_no_verbs_the_reason_is_told(open_directory: Path) -> None:
    async with asking(open_directory) as half:
        (open_directory / "faulty").touch()
        with pytest.raises(PrivilegedUnavailable, match="The configuration is too wet") as caught:
            await half.call("echo", deadline=20, word="one")
        assert caught.value.repair == "dry the configuration"
        assert (await half.probe()).state is State.FAILED
        (open_directory / "faulty").unlink()
        assert (await half.probe()).state is not State.FAILED
        await half.call("echo", deadline=20, word="one")


async def test_calls_run_side_by_side_in_one_half(open_directory: Path) -> None:
    async with asking(open_directory) as half:
        hanging = asyncio.create_task(half.call("hang", deadline=60))
        await until_async(lambda: notes(open_directory) == ["hangs"], "it hangs")
        answers = await asyncio.gather(*(half.call("echo", deadline=60, word="two") for _ in range(200)))
        assert len({answer["pid"] for answer in answers}) == 1
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        assert notes(open_directory) == ["hangs", "hangs no more"], "who is cancelled knows that it has ended"


async def test_a_call_that_takes_too_long_is_over_when_that_is_told(open_directory: Path) -> None:
    lines: list[str] = []
    async with asking(open_directory) as half:
        await half.call("echo", deadline=20, word="one")
        with pytest.raises(VerbFailed, match=r"not done within 2 s"):
            await half.call("hang", deadline=2, on_line=lambda _, line: lines.append(line))
        assert lines == ["hangs"]
        assert notes(open_directory) == ["hangs", "hangs no more"]


async def test_a_lease_holds_until_it_is_let_go(open_directory: Path) -> None:
    async with asking(open_directory) as half:
        async with half.lease("take", deadline=20) as held:
            assert held["took"] == "it"
            assert notes(open_directory) == ["taken"]
        assert notes(open_directory) == ["taken", "given back"]
        with pytest.raises(KeyError):
            async with half.lease("take", deadline=20):
                raise KeyError
        assert notes(open_directory) == ["taken", "given back"] * 2, "it is given back before the context has ended"
        with pytest.raises(VerbFailed, match="The rope is too wet"):
            async with half.lease("take", deadline=20, back="badly"):
                pass


async def hold(half: Client, number: signal.Signals | None = None) -> None:
    """Hold something for ever; send its half a signal."""
    async with half.lease("take", deadline=20) as held:
        if number is not None:
            os.kill(held["pid"], number)
        await asyncio.Event().wait()


async def test_what_needs_a_lease_stops_when_it_is_lost(open_directory: Path) -> None:
    async with asking(open_directory) as half:
        with pytest.raises(VerbFailed, match="it tore"):
            async with half.lease("lose", deadline=20):
                await asyncio.Event().wait()
        with pytest.raises(VerbFailed, match="ended while it did take"):
            await hold(half, signal.SIGKILL)
        await half.call("echo", deadline=20, word="one")


async def test_who_is_cancelled_while_it_holds_is_not_told_anything_else(open_directory: Path) -> None:
    async with asking(open_directory) as half:
        holding = asyncio.create_task(hold(half))
        await until_async(lambda: notes(open_directory) == ["taken"], "it holds")
        holding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holding
        assert notes(open_directory) == ["taken", "given back"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_half_that_is_to_stop_gives_back_what_it_holds(open_directory: Path, number: signal.Signals) -> None:
    async with asking(open_directory) as half:
        pid = (await half.call("echo", deadline=20, word="one"))["pid"]
        with pytest.raises(VerbFailed, match="take let go before it was asked to"):
            await hold(half, number)
        await until_async(lambda: not is_alive(pid), "it has ended")
        assert notes(open_directory) == ["taken", "given back"]


async def test_an_agent_that_stops_ends_its_half_in_order(open_directory: Path) -> None:
    async with asking(open_directory) as half:
        hanging = asyncio.create_task(half.call("hang", deadline=60))
        holding = asyncio.create_task(hold(half))
        pid = (await half.call("echo", deadline=20, word="one"))["pid"]
        await until_async(lambda: {*notes(open_directory)} == {"hangs", "taken"}, "it hangs and holds")
    assert not is_alive(pid)
    assert {"given back", "hangs no more"} <= {*notes(open_directory)}
    with pytest.raises(VerbCutShort, match="hang was ended before it was done"):
        await hanging
    with pytest.raises(VerbFailed, match=r"take (let go|was ended) before"):
        await holding


AGENT = """
import asyncio, sys
from pathlib import Path
from blockbuster import blockbuster_ctx
from tests.root_half import asking
async def main():
    async with asking(Path(sys.argv[1])) as half, half.lease("take", deadline=30, **eval(sys.argv[2])) as held:
        print(held["pid"], flush=True)
        await asyncio.Event().wait()
with blockbuster_ctx("homelab_agent"):
    asyncio.run(main())
"""


def killed_while_it_holds(directory: Path, **arguments: str) -> int:
    """Kill an agent that holds something; return the process id of its half."""
    words = [sys.executable, "-c", AGENT, str(directory), repr(arguments)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        pid = int(agent.stdout.readline())
        assert notes(directory) == ["taken"]
        agent.kill()
    return pid


def test_when_the_agent_is_killed_what_it_held_is_given_back_and_the_half_ends(open_directory: Path) -> None:
    pid = killed_while_it_holds(open_directory)
    until(lambda: not is_alive(pid), "the half has ended")
    assert notes(open_directory) == ["taken", "given back"]


async def test_the_next_agents_half_waits_until_the_one_before_has_given_back(open_directory: Path) -> None:
    before = await asyncio.to_thread(killed_while_it_holds, open_directory, back="when told")
    async with asking(open_directory) as half:
        with pytest.raises(PrivilegedUnavailable, match="did not begin within 2 s"):
            await half.call("mark", deadline=2, word="one", sha="a" * 40)
        assert is_alive(before)
        asked = asyncio.create_task(half.call("mark", deadline=60, word="one", sha="a" * 40))
        (open_directory / "told").touch()
        await asked
    assert notes(open_directory) == ["taken", "given back", "marked"], "what was given up is not done later"


def test_a_half_that_cannot_give_back_ends_all_the_same(open_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(root_half.PATIENCE, "0.5")
    pid = killed_while_it_holds(open_directory, back="never")
    until(lambda: not is_alive(pid), "the half has ended")


async def test_a_half_that_is_killed_fails_its_calls_and_the_next_has_a_new_one(open_directory: Path) -> None:
    async with asking(open_directory) as half:
        before = await half.call("echo", deadline=20, word="one")
        with pytest.raises(VerbCutShort, match="ended while it did crash"):
            await half.call("crash", deadline=20)
        after = await half.call("echo", deadline=20, word="one")
        assert before["pid"] != after["pid"]
        assert await half.answers()


async def test_at_rest_there_is_no_half_and_no_call_is_lost_to_its_going(open_directory: Path) -> None:
    async with asking(open_directory, "0.01") as half:
        pids = [(await half.call("echo", deadline=60, word="one"))["pid"] for _ in range(8)]
        await until_async(lambda: not is_alive(pids[-1]), "it has ended")
        assert (await half.call("echo", deadline=60, word="one"))["pid"] != pids[-1]
        async with half.lease("take", deadline=20) as held:
            await asyncio.sleep(0.2)
            assert is_alive(held["pid"]), "who holds something does not rest"


@pytest.mark.parametrize(
    ("command", "cause"),
    [(["/nonexistent/program"], "exit code 127"), ([sys.executable, "-c", "import nothing"], "exit code 1 before")],
)
async def test_one_that_cannot_start_is_told_and_tried_again(
    open_directory: Path, command: list[str], cause: str
) -> None:
    async with asking(open_directory, command=command) as half:
        for _ in range(2):
            with pytest.raises(PrivilegedUnavailable, match=cause):
                await half.call("echo", deadline=30, word="one")
        assert not await half.answers()
        finding = await half.probe()
        assert finding.state is State.FAILED
        assert cause in finding.detail


async def test_an_agent_that_is_starting_is_waited_for_and_one_that_stops_is_not(open_directory: Path) -> None:
    half = root_half.client(open_directory)
    asked = asyncio.create_task(half.call("echo", deadline=30, word="one"))
    await asyncio.sleep(0.1)
    running = asyncio.create_task(half.run())
    pid = (await asked)["pid"]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not is_alive(pid)
    with pytest.raises(PrivilegedUnavailable, match="the agent is stopping"):
        await half.call("echo", deadline=30, word="one")


async def test_an_agent_that_stops_at_once_leaves_nothing(open_directory: Path) -> None:
    for turns in range(1, 12):
        half = root_half.client(open_directory)
        running = asyncio.create_task(half.run())
        asked = asyncio.create_task(half.call("echo", deadline=30, word="one"))
        for _ in range(turns**2):
            await asyncio.sleep(0.0005)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await asyncio.wait_for(asyncio.gather(asked, return_exceptions=True), 30)
    assert not (open_directory / "privileged.sock").exists()


async def test_where_the_agents_state_lies_too_deep_that_is_told(open_directory: Path) -> None:
    half = root_half.client(open_directory / ("x" * 100))
    with pytest.raises(PrivilegedUnavailable, match="too long") as caught:
        await half.run()
    assert "shorter path" in caught.value.repair
    with pytest.raises(PrivilegedUnavailable, match="too long"):
        await half.call("echo", deadline=5, word="one")


async def test_as_root_it_does_things_as_another(open_directory: Path) -> None:
    need_root("to be another user")
    async with asking(open_directory) as half:
        assert await half.call("whoami", deadline=20, name="nobody") == {"name": "nobody"}
        with pytest.raises(VerbFailed, match="no user nobody-at-all"):
            await half.call("whoami", deadline=20, name="nobody-at-all")


ORDINARY = """
import asyncio, sys
from pathlib import Path
from tests.root_half import asking
async def main():
    async with asking(Path(sys.argv[1])) as half:
        print(await half.call("whoami", deadline=30, name="nobody"))
        try:
            await half.call("whoami", deadline=30, name="root")
        except Exception as error:
            print(type(error).__name__, error, error.repair)
        print((await half.probe()).state)
asyncio.run(main())
"""


def test_an_ordinary_agent_has_a_half_that_is_nobody_else(
    open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_root("to be an ordinary user")
    own = open_directory / "own"
    own.mkdir()
    os.chown(own, user.UID, user.UID)
    done = subprocess.run(
        user.ordinary([sys.executable, "-c", ORDINARY, str(own)]),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    itself, other, finding = done.stdout.splitlines()
    assert itself == "{'name': 'nobody'}"
    assert other.startswith("VerbFailed The agent may do nothing as the user root.")
    assert finding == "not_available"


CALLER = """
import asyncio, os, sys
from pathlib import Path
from tests import root_half
half = root_half.client(Path(sys.argv[1]), unit="half.sock")
try:
    print(asyncio.run(half.call("echo", deadline=30, word="one"))["arguments"], asyncio.run(half.probe()).state)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("callers", "said"),
    [
        (["60", str(user.UID)], "{'word': 'one'} ok"),
        (["60"], "PrivilegedUnavailable The root half is not available. (its service ended before it began)"),
    ],
)
def test_of_others_only_the_agents_own_user_is_served(open_directory: Path, callers: list[str], said: str) -> None:
    need_root("to be another user")
    unit = Unit(open_directory, *callers).start()
    try:
        caller = user.ordinary([sys.executable, "-c", CALLER, str(open_directory)])
        done = subprocess.run(caller, capture_output=True, text=True, timeout=60, check=True)
        with unit.connect() as connection:
            ask(connection, "echo", word="one")
            assert "answer" in hear(connection)[-1], "root is"
    finally:
        unit.close()
    assert done.stdout.strip() == said, done.stderr
    assert notes(open_directory) == []
