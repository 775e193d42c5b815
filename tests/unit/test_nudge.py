"""A sleep ends when its time is over or when it is nudged, whichever comes first."""

from __future__ import annotations

import asyncio

import pytest

from homelab_agent.core.nudge import Nudge
from tests.clock import MovableClock


async def test_a_sleep_lasts_as_long_as_was_asked_for() -> None:
    clock = MovableClock()
    sleep = asyncio.create_task(Nudge(clock).sleep(10))
    await clock.advance(9)
    assert not sleep.done()
    await clock.advance(1)
    assert sleep.done()


async def test_a_nudge_ends_it_and_leaves_nothing_that_waits() -> None:
    clock = MovableClock()
    nudge = Nudge(clock)
    sleep = asyncio.create_task(nudge.sleep(3600))
    await clock.advance(1)
    nudge.give()
    nudge.give()
    await clock.advance(0)
    assert sleep.done()
    assert clock.sleepers == 0


async def test_a_nudge_while_nobody_sleeps_means_nothing() -> None:
    clock = MovableClock()
    nudge = Nudge(clock)
    nudge.give()
    sleep = asyncio.create_task(nudge.sleep(10))
    await clock.advance(9)
    assert not sleep.done()
    sleep.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleep
    await clock.advance(0)
    assert clock.sleepers == 0
