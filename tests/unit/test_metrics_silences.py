"""Where samples are missing, it is noted from when to when, and why."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from homelab_agent.core.spool import Spool
from tests.clock import MovableClock, until
from tests.unit.test_metrics_sampler import NOON, Bench, bench


async def silences(at: Bench) -> list[tuple[float, float, str]]:
    """Return what was noted of missing samples: from and to in seconds after noon, and why."""
    return [
        (
            (row.values["from_at"] - NOON).total_seconds(),  # type: ignore[operator, union-attr]
            (row.values["to_at"] - NOON).total_seconds(),  # type: ignore[operator, union-attr]
            str(row.values["cause"]),
        )
        for row in await at.rows("interruption")
    ]


async def test_each_start_is_noted_with_when_the_host_was_started(tmp_path: Path) -> None:
    clock = MovableClock(NOON)
    async with bench(tmp_path, clock) as at:
        await at.pass_time(30)
    async with bench(tmp_path, clock) as at:
        await at.pass_time(20)
        starts = await at.rows("agent_start")
        assert [row.values["time"] for row in starts] == [NOON + timedelta(seconds=seconds) for seconds in (10, 40)]
        assert {row.values["boot_at"] for row in starts} == {NOON - timedelta(seconds=1000)}
        assert {row.values["interval_s"] for row in starts} == {10}
        assert await silences(at) == []


async def test_a_silence_has_its_cause(tmp_path: Path) -> None:
    async with bench(tmp_path, MovableClock(NOON)) as at:
        await at.pass_time(20)
        at.clock.suspend(300)
        await at.pass_time(20)
        at.clock.hang(50)
        await at.pass_time(20)
        at.clock.step(3600)
        await at.pass_time(20)
        found = await silences(at)
        ticks = sorted((row.at - NOON).total_seconds() for row in await at.rows("tick"))
        holes = [(one, other) for one, other in pairwise(ticks) if other - one > 10]
        assert [(one, other) for one, other, _ in found] == holes
        assert list(dict.fromkeys(cause for _, _, cause in found)) == ["suspended", "held up", "clock set"]


async def test_a_sampler_that_was_started_again_notes_what_is_missing_between(tmp_path: Path) -> None:
    """As the supervisor does with one that has failed: the agent did not start, so no start explains the hole."""
    async with bench(tmp_path, MovableClock(NOON)) as at:
        await at.pass_time(20)
        await at.stop()
        await at.clock.advance(65)
        at.task = asyncio.create_task(at.sampler.run())
        await until(lambda: at.clock.sleepers, "it waits for its next tick")
        await at.pass_time(5)
        await at.pass_time(10)
        assert [(row.at - NOON).total_seconds() for row in await at.rows("tick")] == [10, 20, 90, 100]
        assert await silences(at) == [(20, 90, "held up")]
        assert len(await at.rows("agent_start")) == 1
        await at.stop()


async def test_a_clock_that_is_set_back_leaves_no_silence(tmp_path: Path) -> None:
    async with bench(tmp_path, MovableClock(NOON)) as at:
        await at.pass_time(20)
        at.clock.step(-600)
        await at.pass_time(20)
        assert await silences(at) == []


async def test_samples_that_the_spool_did_not_take_are_a_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path, MovableClock(NOON)) as at:
        await at.pass_time(20)
        put = Spool.put

        async def refused(*_: object, **__: object) -> None:
            message = "no room"
            raise MemoryError(message)

        monkeypatch.setattr(Spool, "put", refused)
        await at.pass_time(20)
        monkeypatch.setattr(Spool, "put", put)
        await at.pass_time(20)
        assert await silences(at) == [(20, 50, "not kept")]
        assert at.sampler.lost == 2
