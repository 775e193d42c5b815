"""The watchdog is fed while the loop turns, the tasks beat and the last sample was taken; else it is not."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core import duty
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.health import Check, Finding, Health, State
from homelab_agent.core.pulse import Pulse
from homelab_agent.core.supervisor.looplag import CALM_SECONDS, LATE_SECONDS, LoopLag
from homelab_agent.core.supervisor.watchdog import Watchdog, hunger
from tests.clock import MovableClock, until


class Manager:
    """The receiving end of systemd's notification socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)  # noqa: FBT003 - the library's own

    def beats(self) -> int:
        """Return how many beats came since the last question."""
        count = 0
        while True:
            try:
                count += self._socket.recv(4096).split() == [b"WATCHDOG=1"]
            except BlockingIOError:
                return count

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


class Agent:
    def __init__(self) -> None:
        self.clock = MovableClock()
        self.lag = LoopLag(self.clock)
        self.pulse = Pulse(self.clock, "jobs", within=60.0)
        self.health = Health(self.clock)
        self.health.add([Check("sampling", blocks=frozenset({"watchdog"}))])
        self.health.report("sampling", Finding.ok("taken"))
        self.watchdog = Watchdog(
            self.clock, limit=30.0, lag=self.lag, neglected=lambda: duty.neglected(self.health, [self.pulse])
        )


@asynccontextmanager
async def running(*tasks: asyncio.Task[None]) -> AsyncIterator[None]:
    await asyncio.sleep(0)
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_it_beats_three_times_within_the_limit(manager: Manager) -> None:
    agent = Agent()
    async with running(asyncio.create_task(agent.watchdog.run())):
        assert manager.beats() == 0, "nothing has been asked yet"
        await agent.clock.advance(30)
        assert manager.beats() == 3


async def test_it_does_not_beat_while_a_critical_task_is_silent(manager: Manager) -> None:
    agent = Agent()
    async with running(asyncio.create_task(agent.watchdog.run())):
        await agent.clock.advance(60)
        assert manager.beats() == 6
        await agent.clock.advance(30)
        assert manager.beats() == 0
        agent.pulse.beat()
        await agent.clock.advance(10)
        assert manager.beats() == 1


async def test_it_does_not_beat_while_the_sample_is_not_taken(manager: Manager) -> None:
    agent = Agent()
    async with running(asyncio.create_task(agent.watchdog.run())):
        manager.beats()
        agent.health.report("sampling", Finding.failed("not taken"))
        await agent.clock.advance(30)
        assert manager.beats() == 0
        agent.health.report("sampling", Finding.ok("taken"))
        await agent.clock.advance(10)
        assert manager.beats() == 1


def test_a_loop_that_is_blocked_feeds_nothing_and_its_lag_is_measured(manager: Manager) -> None:
    clock = SystemClock()
    lag = LoopLag(clock)
    watchdog = Watchdog(clock, limit=0.3, lag=lag, neglected=lambda: "")

    async def block() -> None:
        async with running(asyncio.create_task(watchdog.run())):
            await until(lambda: manager.beats() > 0, "a beat")
            time.sleep(1.2)  # noqa: ASYNC251 - what blocks the loop is what is tested
            assert manager.beats() == 0
            await asyncio.sleep(0)
            assert manager.beats() == 0, "the beat that comes late is withheld"
            assert lag.worst() > 1.1
            await until(lambda: manager.beats() > 0, "a beat, as the loop turns again")

    with asyncio.Runner(loop_factory=lag.new_loop) as runner:
        runner.run(block())


HELD_UP = """
import asyncio
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.supervisor.looplag import CALM_SECONDS, LATE_SECONDS, LoopLag

lag = LoopLag(SystemClock())

async def wait():
    print("waiting", flush=True)
    while lag.worst() < 0.5:
        await asyncio.sleep(0.1)

with asyncio.Runner(loop_factory=lag.new_loop) as runner:
    runner.run(wait())
"""


def test_a_process_that_was_held_up_while_it_waited_was_late_too() -> None:
    with subprocess.Popen([sys.executable, "-c", HELD_UP], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGSTOP)
        time.sleep(1)
        child.send_signal(signal.SIGCONT)
        try:
            assert child.wait(20) == 0
        finally:
            child.kill()


def test_a_loop_that_was_late_beyond_its_bound_is_told_before_anything_else_is_waited_for() -> None:
    lag = LoopLag(SystemClock())

    async def block() -> list[str]:
        told: list[str] = []
        lag.on_late = lambda found: told.append(found.detail)
        time.sleep(LATE_SECONDS / 2)  # noqa: ASYNC251 - what blocks the loop is what is tested
        await asyncio.sleep(0)
        assert told == []
        time.sleep(LATE_SECONDS + 0.1)  # noqa: ASYNC251
        await until(lambda: told, "it is told")
        return told

    with asyncio.Runner(loop_factory=lag.new_loop) as runner:
        assert runner.run(block()) == ["the agent was held up for 2 s"]


async def test_it_counts_as_late_until_it_has_not_been_for_a_while() -> None:
    clock = MovableClock()
    lag = LoopLag(clock)
    (check,) = lag.checks()
    assert check.probe is not None
    assert check.blocks == {"gate"}
    assert (await check.probe()).state is State.OK
    lag.note(LATE_SECONDS + 1)
    assert (await check.probe()).state is State.FAILED
    await clock.advance(CALM_SECONDS)
    assert (await check.probe()).state is State.OK


async def test_the_worst_lag_is_forgotten_after_a_minute() -> None:
    clock = MovableClock()
    lag = LoopLag(clock)
    lag.note(5.0)
    await clock.advance(30)
    lag.note(2.0)
    assert lag.worst() == 5.0
    assert lag.worst(within=10) == 2.0
    await clock.advance(31)
    assert lag.worst() == 2.0
    await clock.advance(60)
    assert lag.worst() == 0.0


@given(st.floats(0, 60), st.sampled_from(["", "no heartbeat of jobs"]))
def test_it_is_fed_only_when_all_holds(lag: float, neglected: str) -> None:
    reason = hunger(lag=lag, longest_lag=10.0, neglected=neglected)
    assert (reason == "") == (lag <= 10.0 and not neglected)


async def test_the_agent_does_its_work_while_jobs_turn_and_what_blocks_the_watchdog_is_well() -> None:
    agent = Agent()
    assert duty.neglected(agent.health, [agent.pulse]) == ""
    agent.health.report("sampling", Finding.failed("not taken"))
    assert "sample" in duty.neglected(agent.health, [agent.pulse])
    agent.health.report("sampling", Finding.degraded("some were lost, and counted"))
    assert duty.neglected(agent.health, [agent.pulse]) == ""
    await agent.clock.advance(61)
    assert duty.neglected(agent.health, [agent.pulse]) == "no heartbeat of jobs"


async def test_what_blocks_the_watchdog_is_waited_for_until_it_was_answered_whatever_it_says() -> None:
    health = Health(MovableClock())
    await asyncio.wait_for(duty.asked(health), 5)
    health.add([Check("sampling", blocks=frozenset({"watchdog"})), Check("other")])
    waiting = asyncio.create_task(duty.asked(health))
    await asyncio.sleep(0)
    health.report("other", Finding.ok("well"))
    await asyncio.sleep(0)
    assert not waiting.done()
    health.report("sampling", Finding.failed("not taken"))
    await asyncio.wait_for(waiting, 5)
