"""A clock that was set wrong ages no data: nothing is dropped or settled by it, and rows of then cost little."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.core import timekeeping
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.jobs import Run
from homelab_agent.core.jobs.run import Trigger
from homelab_agent.database import partitions
from homelab_agent.database.database import Database
from homelab_agent.database.editions import PLAIN
from homelab_agent.database.pool import Connection
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.level import DAY, LEVELS, MINUTE
from homelab_agent.database.rollups.upkeep import Rollups
from homelab_agent.database.settings import DatabaseSettings
from tests.clock import MovableClock
from tests.neighbours.postgres import Postgres
from tests.rolled import every, probing
from tests.shipping import reaching

KEPT = Keep.of(DatabaseSettings())


def run(trigger: Trigger) -> Run:
    return Run("1", "database.rollups", trigger, lambda _: None, lambda _: None, lambda _: nullcontext())


async def seed(database: Database, first: datetime, days: int) -> None:
    """Put one sample a day."""
    async with database.acquire() as connection:
        if database.edition is not None and database.edition.name == PLAIN:
            months = {partitions.month(first + timedelta(days=day)) for day in range(days)}
            await partitions.ensure(connection, "memory_sample", months)
        await connection.execute("INSERT INTO entity VALUES (7, 'here', 'memory', '', '')")
        await connection.execute(
            "INSERT INTO memory_sample (entity_id, time, used_pct)"
            " SELECT 7, $1::timestamptz + number * INTERVAL '1 day',"
            " number FROM generate_series(0, $2 - 1) AS number",
            first,
            days,
        )


async def held(database: Database) -> list[Any]:
    """Return what there is, and up to when it is done."""
    names = ["memory", *(f"memory_{level.name}" for level in LEVELS)]
    counts = [(await database.fetch(f"SELECT count(*) AS n FROM {name}"))[0]["n"] for name in names]
    standing = "SELECT level, until, settled FROM homelab.rollup WHERE series = 'memory_sample' ORDER BY level"
    return [*counts, *map(tuple, await database.fetch(standing))]


@pytest.mark.parametrize("kept", [False, True])
async def test_a_clock_set_ten_years_forward_drops_and_settles_nothing_until_somebody_says_that_it_is_right(
    any_postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, kept: bool
) -> None:
    monkeypatch.setattr(timekeeping, "synchronised", lambda: kept)
    now = DAY.floor(datetime.now(UTC)) + timedelta(hours=12)
    clock = MovableClock(now)
    async with reaching(any_postgres.url, tmp_path, SystemClock()) as database:
        await seed(database, now - timedelta(days=100), 100)
        rollups = Rollups(database, clock, KEPT)
        assert (await rollups.roll(run("schedule"))).ok
        before = await held(database)
        clock.step(timedelta(days=3650).total_seconds())
        outcome = await rollups.roll(run("schedule"))
        dropped = await rollups.expire()
        plain = database.edition is not None and database.edition.name == PLAIN
        if kept:
            assert outcome.ok
            assert not plain or "months dropped" in dropped
            return
        assert not outcome.ok
        assert "jobs run database.rollups" in outcome.repair
        assert " 3650 days" in outcome.detail
        assert not plain or " 3650 days" in dropped
        assert await held(database) == before
        assert (await rollups.roll(run("command"))).ok, "who asks for it says that the clock is right"


async def test_a_row_of_a_clock_that_was_not_set_yet_makes_no_month_for_all_years_since(
    postgres: Postgres,
) -> None:
    async with probing(postgres) as probe:
        now = datetime(2026, 11, 24, 12, tzinfo=UTC)
        old, young = every(60, datetime(1970, 1, 1, 0, 5, tzinfo=UTC), 3), every(60, now - timedelta(hours=30), 600)
        await probe.insert([*old, *young])
        await probe.roll(now)
        await probe.check([*old, *young])
        assert await months(probe.connection) <= 4


async def months(connection: Connection) -> int:
    """Return for how many months there are minutes."""
    query = "SELECT count(*) FROM pg_inherits WHERE inhparent = $1::text::regclass"
    return int(await connection.fetchval(query, f"homelab.probe_{MINUTE.name}_rollup"))
