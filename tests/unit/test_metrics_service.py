"""What the capability contributes: one critical task, checks that tell the truth, charts, `/metrics`, reload."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import homelab_agent
from homelab_agent.core.capability import Capability
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Finding, Health
from homelab_agent.core.health import State as Standing
from homelab_agent.core.jobs import Jobs
from homelab_agent.core.spool import Spool
from homelab_agent.core.state import State
from homelab_agent.metrics import service
from homelab_agent.metrics.collection import Collection
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.settings import MetricsSettings
from tests.clock import MovableClock, until
from tests.database import NoDatabase

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SCHEMAS = sorted(Path(homelab_agent.__file__).parent.glob("*/schema/state.sql"))

HAS_SYSTEMD = Path("/run/systemd/system").is_dir()
WAITING = 1
"""The sampler, which sleeps until its next turn."""


@pytest.fixture
async def base(tmp_path: Path) -> AsyncIterator[Foundation]:
    clock = MovableClock(NOON)
    state = await State.open(tmp_path, SCHEMAS, clock=clock)
    spool = Spool(state, clock, host="here", max_bytes=2**24, max_age=86400)
    jobs = Jobs(state, spool, clock, host="here", timezone=UTC)
    yield Foundation("here", tmp_path, clock, state, spool, Health(clock), jobs, NoDatabase(), CollectorRegistry())
    await spool.close()
    await state.close()


async def found(capability: Capability, name: str) -> Finding:
    [check] = [check for check in capability.checks if check.name == name]
    assert check.probe is not None
    return await check.probe()


async def test_it_samples_shows_and_says_so(base: Foundation) -> None:
    clock = base.clock
    assert isinstance(clock, MovableClock)
    capability = service.build(MetricsSettings(), base)
    assert capability.summary is not None
    assert capability.exposition is not None
    assert capability.charts is not None
    assert capability.summary() == "no sample yet"
    task, *_ = capability.tasks
    assert task.critical
    running = asyncio.ensure_future(task.run())
    await until(lambda: clock.sleepers >= WAITING, "everything to wait")
    await clock.advance(10)
    await until_sampled(capability, clock, 1)
    assert "CPU" not in capability.summary()  # a share needs two readings
    assert capability.summary().startswith("memory ")
    samples = 1
    while "CPU" not in capability.summary() and samples < 100:  # until the kernel has counted a hundredth of a second
        samples += 1
        await clock.advance(10)
        await until_sampled(capability, clock, samples)
    assert re.match("CPU \\d+\u00a0%, memory \\d+\u00a0%", capability.summary())
    assert b"node_cpu_seconds_total" in capability.exposition()
    assert len(capability.charts()[0].series[0].points) == samples
    assert (await found(capability, "metrics.collectors")).state is Standing.OK
    units = await found(capability, "metrics.units")
    assert (units.detail == "The host has no systemd.") is not HAS_SYSTEMD
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await clock.advance(90)
    silent = await found(capability, "metrics.sampling")
    assert silent.state is Standing.FAILED  # so the watchdog is not fed
    assert "no sample for 90 s" in silent.detail


async def test_the_watchdog_asks_for_samples(base: Foundation) -> None:
    capability = service.build(MetricsSettings(), base)
    [check] = [check for check in capability.checks if check.name == "metrics.sampling"]
    assert check.blocks == {"watchdog"}
    assert (await found(capability, "metrics.sampling")).state is Standing.OK  # the first is not due yet


async def test_collectors_that_all_hang_do_not_starve_the_watchdog_and_a_sampler_that_does_starves_it(
    base: Foundation,
) -> None:
    clock = base.clock
    assert isinstance(clock, MovableClock)
    settings = MetricsSettings(collector_deadline=60)
    capability = service.build(settings, base)
    await clock.advance(2.5 * settings.interval + 8 * 60)  # filesystems and sensors, which may take four deadlines each
    assert (await found(capability, "metrics.sampling")).state is Standing.OK
    longest = sum(one.patience for one in Collection(Host("here"), settings).collectors) + 3  # disks, space, probes
    await clock.advance((longest - 8) * 60)
    assert (await found(capability, "metrics.sampling")).state is Standing.OK
    await clock.advance(1)
    assert (await found(capability, "metrics.sampling")).state is Standing.FAILED


async def test_it_tells_how_long_postgresql_takes_to_answer(base: Foundation) -> None:
    clock = base.clock
    assert isinstance(clock, MovableClock)
    assert isinstance(base.database, NoDatabase)
    capability = service.build(MetricsSettings(), base)
    running = asyncio.ensure_future(capability.tasks[0].run())
    await until(lambda: clock.sleepers >= WAITING, "the first wait")
    for samples, seconds in enumerate((0.0123, None), start=1):
        base.database.round_trip_seconds = seconds
        await clock.advance(10)
        await until_sampled(capability, clock, samples)
    batch = await base.spool.take()
    assert batch is not None
    assert [row.values["database_ms"] for row in batch.rows if row.table == "agent_sample"] == [12.3, None]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_lost_sample_is_news_for_a_day(base: Foundation, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = base.clock
    assert isinstance(clock, MovableClock)
    capability = service.build(MetricsSettings(), base)
    running = asyncio.ensure_future(capability.tasks[0].run())
    await until(lambda: clock.sleepers >= WAITING, "the first wait")

    async def refuse(*_args: object, **_more: object) -> None:
        raise ValueError("no place for it")

    with monkeypatch.context() as broken:
        broken.setattr(Spool, "put", refuse)
        await clock.advance(10)
        await until_sampled(capability, clock, 1)
    await clock.advance(10)
    await until_sampled(capability, clock, 2)
    lost = await found(capability, "metrics.sampling")
    assert lost.state is Standing.DEGRADED
    assert lost.detail == "samples lost: 1, the last at 2026-11-24 12:00 UTC: ValueError: no place for it"
    clock.step(86400)
    assert (await found(capability, "metrics.sampling")).state is Standing.OK
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_new_interval_and_new_filters_apply_without_a_restart(base: Foundation) -> None:
    clock = base.clock
    assert isinstance(clock, MovableClock)
    capability = service.build(MetricsSettings(), base)
    assert capability.reload is not None
    running = asyncio.ensure_future(capability.tasks[0].run())
    await until(lambda: clock.sleepers >= WAITING, "the first wait")
    await clock.advance(10)
    await until_sampled(capability, clock, 1)
    capability.reload(MetricsSettings(interval=5, mounts_exclude=["*"]))
    for samples in (2, 3):  # the wait that had begun is over
        await clock.advance(5)
        await until_sampled(capability, clock, samples)
    batch = await base.spool.take()
    assert batch is not None
    assert [row.at - NOON for row in batch.rows if row.table == "tick"] == [
        timedelta(seconds=seconds) for seconds in (10, 15, 20)
    ]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_shorter_interval_makes_no_sample_overdue(base: Foundation) -> None:
    """What fails here withholds the watchdog's food: the agent would be killed for a reload."""
    clock = base.clock
    assert isinstance(clock, MovableClock)
    capability = service.build(MetricsSettings(interval=3600), base)
    assert capability.reload is not None
    running = asyncio.ensure_future(capability.tasks[0].run())
    await until(lambda: clock.sleepers >= WAITING, "the first wait")
    await clock.advance(100)
    assert (await found(capability, "metrics.sampling")).state is Standing.OK
    capability.reload(MetricsSettings(interval=10))
    assert (await found(capability, "metrics.sampling")).state is Standing.OK
    await clock.advance(10)
    await until_sampled(capability, clock, 1)
    assert (await found(capability, "metrics.sampling")).state is Standing.OK
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def until_sampled(capability: Capability, clock: MovableClock, samples: int) -> None:
    """Wait until that many samples were taken and the next is waited for."""
    exposition = capability.exposition
    assert exposition is not None
    counted = f"homelab_agent_samples_total {samples}\n".encode()
    await until(lambda: counted in exposition() and clock.sleepers >= WAITING, f"sample {samples}")
