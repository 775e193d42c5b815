"""Every view answers for an hour, a day and ninety days, alike on every edition, with PostGIS beside it or not."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from homelab_agent.core.clock import SystemClock
from homelab_agent.database.editions import PLAIN
from homelab_agent.database.partitions import ensure, month
from homelab_agent.database.pool import Connection
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.level import DAY, LEVELS
from homelab_agent.database.rollups.upkeep import Rollups
from homelab_agent.database.settings import DatabaseSettings
from homelab_agent.metrics.names import METRICS
from tests.filled import Table, tables
from tests.neighbours.postgres import Postgres
from tests.rolled import a_run
from tests.shipping import reaching

RANGES = {"1 h": timedelta(hours=1), "24 h": timedelta(hours=24), "90 d": timedelta(days=90)}
PAST = """
SELECT row_number() OVER (ORDER BY at) AS n, at FROM (
    SELECT $1::timestamptz - number * interval '30 minutes' AS at FROM generate_series(2, 48 * 90) AS number
     UNION SELECT $1::timestamptz - number * interval '10 seconds' FROM generate_series(1, 360) AS number) AS time
"""
ENTITIES = """
INSERT INTO entity SELECT number, 'here', family, 'key', 'label'
  FROM unnest($1::text[]) WITH ORDINALITY AS one (family, number)
"""
PARTS = ("cpu", "memory", "disk", "network")


def taken(now: datetime) -> list[datetime]:
    """Return when there are samples: twice an hour for ninety days, in the last hour each ten seconds."""
    rare = {now - timedelta(minutes=30 * number) for number in range(2, 48 * 90 + 1)}
    return sorted(rare | {now - timedelta(seconds=10 * number) for number in range(1, 361)})


@pytest.fixture(params=["postgres", "postgres_debian", "postgres_timescale"])
def server(request: pytest.FixtureRequest) -> Postgres:
    found: Postgres = request.getfixturevalue(request.param)
    return found


async def test_every_view_answers_for_an_hour_a_day_and_ninety_days(server: Postgres, tmp_path: Path) -> None:
    now = DAY.floor(SystemClock().read().wall)
    async with reaching(server.url, tmp_path, SystemClock()) as database, database.acquire() as connection:
        assert database.edition is not None
        assert bool(database.edition.postgis) == (server.kind != "wheel")
        await seed(connection, now)
        rollups = Rollups(database, SystemClock(), Keep.of(DatabaseSettings(keep_samples=120, keep_minutes=120)))
        assert (await rollups.roll(a_run())).ok
        times = taken(now)
        for asked in RANGES.values():
            since = now - asked
            count = sum(since <= at for at in times)
            for family in METRICS:
                await ask(connection, family, since, now, count)
            for part in PARTS:
                query = "SELECT * FROM system_metrics WHERE metric_type = $3 AND time >= $1 AND time < $2 ORDER BY time"
                found = await connection.fetch(query, since, now, part)
                assert [row["time"] for row in found] == times[-count:], part
                assert {row["host"] for row in found} == {"here"}
            whole = await connection.fetch("SELECT * FROM silence WHERE to_at > $1 ORDER BY from_at", since)
            assert [row["cause"] for row in whole] == silences(asked)
        if database.edition.name == PLAIN:
            await is_pruned(connection, now)


async def seed(connection: Connection, now: datetime) -> None:
    """Put the samples of every family, some silences, and who they are of."""
    await connection.execute(ENTITIES, list(METRICS))
    ids = {family: number for number, family in enumerate(METRICS, 1)}
    for table in await tables(connection):
        family = table.name.removesuffix("_sample")
        if family in ids or table.name == "tick":
            await in_months(connection, table, now)
            fixed = {"entity_id": str(ids[family])} if family in ids else {"host": "'here'"}
            await connection.execute(table.insert(PAST, fixed), now)
    gone = [("suspended", timedelta(minutes=20)), ("held up", timedelta(hours=5)), ("clock set", timedelta(days=50))]
    for cause, ago in gone:
        await connection.execute(
            "INSERT INTO interruption VALUES ('here', $1, $2, $3)", now - ago, now - ago + timedelta(minutes=5), cause
        )


async def in_months(connection: Connection, table: Table, now: datetime) -> None:
    if table.divided:
        await ensure(connection, table.name, {month(now - timedelta(days=days)) for days in range(92)})


def silences(asked: timedelta) -> list[str]:
    """Return the causes of those that reach into the range, the oldest first."""
    return {"1 h": ["suspended"], "24 h": ["held up", "suspended"]}.get(
        next(name for name, width in RANGES.items() if width == asked), ["clock set", "held up", "suspended"]
    )


async def ask(connection: Connection, family: str, since: datetime, now: datetime, count: int) -> None:
    """Fail unless a family's view and those of its rollups have every sample of the range."""
    found = await connection.fetch(f"SELECT * FROM {family} WHERE time >= $1 AND time < $2", since, now)
    assert (len(found), {(row["host"], row["label"]) for row in found}) == (count, {("here", "label")}), family
    assert any(isinstance(value, int | float) for value in found[0].values()), family
    for level in LEVELS:
        query = f"SELECT * FROM {family}_{level.name} WHERE time >= $1 AND time < $2 ORDER BY time"
        rows = await connection.fetch(query, level.floor(since), now)
        wanted = {level.floor(row["time"]) for row in found}
        assert wanted <= {row["time"] for row in rows}, (family, level.name)
        if level.floor(since) == since:
            assert sum(row["samples"] for row in rows) == count, (family, level.name)
        averages = [value for row in rows for name, value in row.items() if name.endswith("_avg")]
        assert None not in averages, (family, level.name)


async def is_pruned(connection: Connection, now: datetime) -> None:
    """Fail unless an hour's question leaves out the months before, and one entity's has an index."""
    await connection.execute("SET enable_seqscan = off")
    lines = await connection.fetch(
        f"EXPLAIN SELECT * FROM cpu_sample WHERE entity_id = 1 AND time >= '{now - timedelta(hours=1)}'"
    )
    plan = "\n".join(row[0] for row in lines)
    before = [month(now - timedelta(days=days)) for days in (40, 70)]
    assert not [one for one in before if f"cpu_sample_y{one:%Y}m{one:%m}" in plan], plan
    assert "Index Cond" in plan
