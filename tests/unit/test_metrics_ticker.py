"""Ticks come on wall-clock boundaries whatever happens to the clock: no burst, no silence."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from homelab_agent.metrics.ticker import Tick, Ticker
from tests.clock import MovableClock

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Listener:
    """Collects ticks while the test moves the clock."""

    def __init__(self, clock: MovableClock, interval: int = 10) -> None:
        self.ticker = Ticker(clock, interval)
        self.ticks: list[Tick] = []
        self.task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while True:
            self.ticks.append(await self.ticker.next())


async def listening(clock: MovableClock, interval: int = 10) -> Listener:
    listener = Listener(clock, interval)
    await clock.advance(0)
    return listener


async def test_ticks_come_on_boundaries() -> None:
    clock = MovableClock(NOON + timedelta(seconds=3.2))
    listener = await listening(clock)
    await clock.advance(60)
    assert [tick.due for tick in listener.ticks] == [NOON + timedelta(seconds=10 * n) for n in range(1, 7)]
    assert all(tick.late == 0 and tick.skipped == 0 for tick in listener.ticks)
    listener.task.cancel()


async def test_a_missed_boundary_is_skipped_and_counted_never_made_up_for() -> None:
    clock = MovableClock(NOON)
    ticker = Ticker(clock, 10)
    first = asyncio.create_task(ticker.next())
    await clock.advance(0)
    await clock.advance(10)
    assert (await first).skipped == 0
    await clock.advance(34)  # the process was busy: nobody asked
    following = asyncio.create_task(ticker.next())
    await clock.advance(0)
    await clock.advance(6)
    tick = await following
    assert tick.due == NOON + timedelta(seconds=50)
    assert tick.skipped == 3
    after = asyncio.create_task(ticker.next())
    await clock.advance(0)
    await clock.advance(9)
    assert not after.done()
    await clock.advance(1)
    assert (await after).skipped == 0


async def test_a_wake_that_is_late_says_so() -> None:
    clock = MovableClock(NOON)
    ticker = Ticker(clock, 10)
    tick = asyncio.create_task(ticker.next())
    await clock.advance(0)
    clock.step(0.2)
    await clock.advance(10)
    assert (await tick).late == 0.2


async def test_a_step_forward_is_followed_by_no_burst() -> None:
    clock = MovableClock(NOON)
    listener = await listening(clock)
    await clock.advance(10)
    clock.step(3600)
    await clock.advance(30)
    assert [tick.due - NOON for tick in listener.ticks] == [
        timedelta(seconds=10),
        *(timedelta(hours=1, seconds=10 * n) for n in (2, 3, 4)),
    ]
    assert [tick.drift.step for tick in listener.ticks] == [0, 3600, 0, 0]
    assert sum(tick.skipped for tick in listener.ticks) == 0
    listener.task.cancel()


async def test_a_step_back_is_followed_by_no_silence() -> None:
    """A schedule kept in absolute wall time would be silent for an hour."""
    clock = MovableClock(NOON)
    listener = await listening(clock)
    await clock.advance(20)
    clock.step(-3600)
    await clock.advance(30)
    assert len(listener.ticks) == 5
    assert listener.ticks[2].due == NOON - timedelta(minutes=60) + timedelta(seconds=30)
    assert listener.ticks[2].drift.step == -3600
    listener.task.cancel()


async def test_after_a_step_to_between_boundaries_the_next_boundary_is_waited_for() -> None:
    clock = MovableClock(NOON)
    listener = await listening(clock)
    await clock.advance(10)
    clock.step(-1804)
    await clock.advance(25)
    assert listener.ticks[1].due == listener.ticks[1].at.wall
    assert listener.ticks[1].drift.step == -1804
    assert listener.ticks[1].at.monotonic - listener.ticks[0].at.monotonic < 25
    listener.task.cancel()


async def test_a_suspend_is_recorded_counts_as_no_miss_and_is_followed_by_no_burst() -> None:
    clock = MovableClock(NOON)
    listener = await listening(clock)
    await clock.advance(10)
    clock.suspend(7203)
    await clock.advance(20)
    assert [tick.drift.asleep for tick in listener.ticks] == [0, 7203]
    assert listener.ticks[1].due == NOON + timedelta(seconds=7230)
    assert listener.ticks[1].skipped == 0
    listener.task.cancel()


async def test_long_intervals_are_slept_in_pieces_so_that_a_step_is_seen() -> None:
    clock = MovableClock(NOON)
    listener = await listening(clock, interval=3600)
    await clock.advance(60)
    clock.step(3600 - 60 - 40)
    await clock.advance(41)
    assert [tick.due for tick in listener.ticks] == [NOON + timedelta(hours=1)]
    listener.task.cancel()


async def test_a_new_interval_counts_at_once_also_in_the_middle_of_a_long_wait() -> None:
    clock = MovableClock(NOON)
    listener = await listening(clock, interval=3600)
    await clock.advance(17)
    listener.ticker.adopt(10)
    await clock.advance(14)
    listener.ticker.adopt(3600)
    await clock.advance(60)
    assert [tick.due for tick in listener.ticks] == [NOON + timedelta(seconds=20), NOON + timedelta(seconds=30)]
    assert [tick.skipped for tick in listener.ticks] == [0, 0]
    listener.task.cancel()
