"""A mute lasts as long as was said, whatever the clock is set to, and over a start."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from homelab_agent.core.state import State
from homelab_agent.notify.mute import Mute
from tests.clock import MovableClock
from tests.notified import SCHEMAS

DAY = 86400.0


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def state(tmp_path: Path, clock: MovableClock) -> AsyncIterator[State]:
    opened = await State.open(tmp_path, SCHEMAS, clock=clock)
    yield opened
    await opened.close()


async def muted(state: State, clock: MovableClock) -> Mute:
    mute = Mute(state, clock)
    await mute.set(who="ann", reason="new disks", until=clock.read().wall + timedelta(hours=2))
    return mute


@pytest.mark.parametrize("step", [0, -3 * DAY, 3 * DAY])
async def test_it_lasts_two_hours_though_the_clock_is_set(state: State, clock: MovableClock, step: float) -> None:
    mute = await muted(state, clock)
    clock.step(step)
    clock.hang(7100)
    word = mute.current()
    assert word is not None
    assert word.until == clock.read().wall + timedelta(seconds=100)
    clock.hang(101)
    assert mute.current() is None


async def test_time_asleep_counts(state: State, clock: MovableClock) -> None:
    mute = await muted(state, clock)
    clock.suspend(7201)
    assert mute.current() is None


@pytest.mark.parametrize(("step", "left"), [(0, 6000), (-3 * DAY, 7200), (3 * DAY, 0)])
async def test_over_a_start_it_never_lasts_for_longer_than_was_said(
    state: State, clock: MovableClock, step: float, left: float
) -> None:
    await muted(state, clock)
    clock.hang(1200)
    clock.step(step)
    mute = Mute(state, clock)
    await mute.recover()
    assert (mute.current() is not None) == (left > 0)
    clock.hang(max(left - 1, 0))
    assert (mute.current() is not None) == (left > 0)
    clock.hang(2)
    assert mute.current() is None
