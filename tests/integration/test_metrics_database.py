"""Samples arrive in PostgreSQL, on every edition, once, and come back as charts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path

from prometheus_client import CollectorRegistry

import homelab_agent
from homelab_agent.core.capability import Capability
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Health
from homelab_agent.core.health import State as Standing
from homelab_agent.core.jobs import Jobs
from homelab_agent.core.spool import Spool
from homelab_agent.core.state import State
from homelab_agent.metrics import service
from homelab_agent.metrics.names import METRICS
from homelab_agent.metrics.settings import MetricsSettings
from tests.clock import until
from tests.neighbours.postgres import Postgres
from tests.shipping import shipping

SCHEMAS = sorted(Path(homelab_agent.__file__).parent.glob("*/schema/state.sql"))


@asynccontextmanager
async def foundation(directory: Path, url: str) -> AsyncIterator[Foundation]:
    clock = SystemClock()
    state = await State.open(directory, SCHEMAS, clock=clock)
    spool = Spool(state, clock, host="here", max_bytes=2**24, max_age=86400)
    jobs = Jobs(state, spool, clock, host="here", timezone=UTC)
    try:
        async with shipping(url, directory, spool, clock) as database:
            health, registry = Health(clock), CollectorRegistry()
            yield Foundation("here", directory, clock, state, spool, health, jobs, database, registry)
    finally:
        await spool.close()
        await state.close()


async def test_samples_arrive_once_and_come_back_as_charts(any_postgres: Postgres, tmp_path: Path) -> None:
    settings = MetricsSettings(interval=1, slow_interval=1)
    async with foundation(tmp_path, any_postgres.url) as base:
        capability = service.build(settings, base)
        [task] = capability.tasks
        running = asyncio.ensure_future(task.run())
        await base.database.wait_until_up()

        async def arrived() -> int:
            rows = await base.database.fetch("SELECT count(*) FROM tick")
            return int(rows[0][0])

        async with asyncio.timeout(30):
            while await arrived() < 4:  # noqa: ASYNC110 - what another process holds
                await asyncio.sleep(0.1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await until(lambda: not base.spool.status().rows_memory, "the last rows to be shipped")
        for family in METRICS:
            [row] = await base.database.fetch(f"SELECT count(*), count(DISTINCT (key, time)) FROM {family}")
            assert row[0] == row[1]
            assert row[0] >= 4 or family == "temperature"
        [row] = await base.database.fetch("SELECT host, label, busy_pct, time FROM cpu ORDER BY time DESC LIMIT 1")
        assert (row["host"], row["label"]) == ("here", "total")
        assert 0 <= row["busy_pct"] <= 100
        assert row["time"].microsecond == 0
        assert base.spool.status().rejected == 0
        assert base.spool.status().thinned == 0
        assert not (await check(capability, "metrics.sampling")).startswith("no sample")

        fresh = service.Service(settings, base)
        await fresh._seed()
        assert len(fresh.charts()[0].series[0].points) >= 1
        assert fresh.charts()[1].series[0].points[0][1] is not None


async def check(capability: Capability, name: str) -> str:
    [found] = [one for one in capability.checks if one.name == name]
    assert found.probe is not None
    finding = await found.probe()
    assert finding.state is Standing.OK
    return str(finding.detail)
