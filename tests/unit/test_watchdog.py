"""The watchdog is fed while the loop turns, the tasks beat and the last sample was taken; else it is not."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.pulse import Pulse
from homelab_agent.core.supervisor.looplag import KEPT, LoopLag
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
        self.truth = True
        self.watchdog = Watchdog(self.clock, limit=30.0, lag=self.lag, pulses=[self.pulse], truth=lambda: self.truth)


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
        assert manager.beats() == 1
        await agent.clock.advance(30)
        assert manager.beats() == 3


async def test_it_does_not_beat_while_a_critical_task_is_silent(manager: Manager) -> None:
    agent = Agent()
    async with running(asyncio.create_task(agent.watchdog.run())):
        await agent.clock.advance(60)
        assert manager.beats() == 7
        await agent.clock.advance(30)
        assert manager.beats() == 0
        agent.pulse.beat()
        await agent.clock.advance(10)
        assert manager.beats() == 1


async def test_it_does_not_beat_while_the_sample_is_not_taken(manager: Manager) -> None:
    agent = Agent()
    async with running(asyncio.create_task(agent.watchdog.run())):
        manager.beats()
        agent.truth = False
        await agent.clock.advance(30)
        assert manager.beats() == 0
        agent.truth = True
        await agent.clock.advance(10)
        assert manager.beats() == 1


async def test_a_loop_that_is_blocked_feeds_nothing_and_its_lag_is_measured(manager: Manager) -> None:
    clock = SystemClock()
    lag = LoopLag(clock)
    watchdog = Watchdog(clock, limit=0.3, lag=lag, pulses=[], truth=lambda: True)
    async with running(asyncio.create_task(watchdog.run()), asyncio.create_task(lag.run())):
        await until(lambda: manager.beats() > 0, "a beat")
        time.sleep(2.4)  # noqa: ASYNC251 - what blocks the loop is what is tested
        assert manager.beats() == 0
        await until(lambda: lag.current > 0.2, "a measurement")
        assert lag.maximum >= lag.current


async def test_the_worst_lag_is_forgotten_after_a_minute() -> None:
    clock = MovableClock()
    lag = LoopLag(clock)
    async with running(asyncio.create_task(lag.run())):
        clock.hang(7.0)
        await clock.advance(10)
        assert lag.maximum == 5.0
        await clock.advance(2 * KEPT + 2)
        assert lag.maximum == 0.0


@given(st.floats(0, 60), st.lists(st.sampled_from(["jobs", "metrics"]), max_size=2), st.booleans())
def test_it_is_fed_only_when_all_holds(lag: float, silent: list[str], truth: bool) -> None:  # noqa: FBT001
    reason = hunger(lag=lag, longest_lag=10.0, silent=silent, truth=truth)
    assert (reason == "") == (lag <= 10.0 and not silent and truth)
