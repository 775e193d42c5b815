"""Weeks of samples in PostgreSQL become the day on which a filesystem is full, on every edition."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.health import Finding, State
from homelab_agent.core.spool import Spool
from homelab_agent.core.state import State as Disk
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.upkeep import Rollups
from homelab_agent.database.settings import DatabaseSettings
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.rows import of_entities, of_families
from homelab_agent.metrics.sample import Reading
from homelab_agent.metrics.space import CHECK, Space
from tests.clock import until
from tests.neighbours.postgres import Postgres
from tests.shipping import shipping
from tests.unit.test_metrics_sampler import CORE

GIB = 2**30


async def test_a_disk_that_grows_is_told_and_one_that_is_gone_is_not(any_postgres: Postgres, tmp_path: Path) -> None:
    clock, host, heard = SystemClock(), Host("here"), list[tuple[str, Finding]]()
    state = await Disk.open(tmp_path, sorted(CORE.glob("*.sql")), clock=clock)
    spool = Spool(state, clock, host="here", max_bytes=2**24, max_age=86400)
    async with shipping(any_postgres.url, tmp_path, spool, clock) as database:
        space = Space(host, clock, database, lambda name, finding: heard.append((name, finding)))
        assert not await space.look(), "there are no rollups yet"
        now = clock.read().wall
        grows = host.entities.get("filesystem", "0a1b-2c3d", "/srv")
        gone = host.entities.get("filesystem", "4e5f-6a7b", "/media/stick")
        await spool.put(of_entities([grows, gone], "here", now))
        for back in range(20, -1, -1):
            at = now - timedelta(days=back)
            full = {"used_bytes": (100 - back) * GIB, "available_bytes": (5 + back) * GIB}
            readings = [Reading(grows, {**full})] + ([Reading(gone, {**full})] if back > 3 else [])
            await spool.put(of_families({"filesystem": readings}, at))
        await until(lambda: not spool.status().rows_memory, "the rows to be shipped")
        await Rollups(database, clock, Keep.of(DatabaseSettings())).make()
        assert await space.look()
        [(name, finding)] = heard
        assert (name, finding.state) == (CHECK, State.DEGRADED)
        assert finding.detail == "/srv is full in 5.0 days if it grows as in the last weeks"
        assert await space.look(), "it is asked again before a sample tells of it"
        [reading] = space.collect()["forecast"]
        assert (reading.entity.key, reading.entity.label) == ("0a1b-2c3d", "/srv")
        assert reading.values == {"full_in_d": 5.0, "growth_bytes_per_d": GIB}
    await spool.close()
    await state.close()
