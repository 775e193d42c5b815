"""A database of any earlier release becomes that of this one with all its rows, and takes what earlier releases put."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.spool import Row, Scalar
from homelab_agent.database import editions, migrations
from homelab_agent.database.address import Address
from homelab_agent.database.migrations import Migration
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.level import HOUR
from homelab_agent.database.rollups.upkeep import Rollups
from homelab_agent.database.settings import DatabaseSettings
from tests.clock import until
from tests.filled import Table, has, put, tables
from tests.founded import foundation
from tests.neighbours.postgres import Postgres
from tests.shipping import reaching

RELEASED = sorted((Path(__file__).parents[1] / "released").glob("*.json"))
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
VIEWS = "SELECT viewname FROM pg_views WHERE schemaname = 'homelab' ORDER BY 1"


def by_room(files: Sequence[Migration]) -> list[Migration]:
    """Return them as a new database is given them: one room after the other."""
    return list(files)


def by_age(files: Sequence[Migration]) -> list[Migration]:
    """Return them as releases brought them: first seconds after firsts; the database's third with the ninths."""

    def age(file: Migration) -> float:
        if file.room != "database":
            return file.number
        return 0 if file.number < 3 else file.number + 5.9

    return sorted(files, key=age)


@pytest.fixture(params=["postgres", "postgres_timescale"])
def each_edition(request: pytest.FixtureRequest) -> Postgres:
    server: Postgres = request.getfixturevalue(request.param)
    return server


@pytest.mark.parametrize("order", [by_room, by_age])
async def test_rows_of_every_earlier_version_are_there_after_all_that_follow(
    each_edition: Postgres, order: Callable[[Sequence[Migration]], list[Migration]], tmp_path: Path
) -> None:
    now = HOUR.floor(SystemClock().read().wall)
    connection = await asyncpg.connect(**Address.of_url(each_edition.url).options)
    given: list[tuple[Table, int, datetime]] = []
    try:
        edition = (await editions.prepare(connection)).name
        files = await asyncio.to_thread(migrations.load, edition)
        for number, file in enumerate(order(files)):
            await migrations.apply(connection, [file], edition=edition)
            for table in await tables(connection):
                at = now - timedelta(
                    days=8, hours=number
                )  # TimescaleDB may drop at any time what is older than 30 days
                await put(connection, table, number, at)
                given.append((table, number, at))
        assert {table.name for table, *_ in given} == {table.name for table in await tables(connection)}
        async with reaching(each_edition.url, tmp_path, SystemClock()) as database:
            await Rollups(database, SystemClock(), Keep.of(DatabaseSettings())).make()
            assert not migrations.pending(files, await migrations.read_applied(connection))
        for table, number, at in given:
            assert await has(connection, table, number, at), (table.name, number)
        for row in await connection.fetch(VIEWS):
            await connection.fetch(f"SELECT * FROM homelab.{row['viewname']}")
    finally:
        await connection.close()


def recorded(path: Path) -> list[Row]:
    """Return one row of each kind that a release has put, as its spool may still hold it."""
    return [
        Row(one["table"], tuple(one["key"]), dict(one["values"]), NOON)
        for one in json.loads(path.read_text(), object_hook=timed)
    ]


def timed(found: dict[str, Scalar]) -> dict[str, Scalar] | datetime:
    """Return a time where one was written down as such."""
    return datetime.fromisoformat(str(found["at"])) if set(found) == {"at"} else found


@pytest.mark.parametrize("release", RELEASED, ids=lambda path: path.stem)
async def test_what_an_earlier_release_puts_has_its_place_in_this_ones_schema(
    each_edition: Postgres, release: Path, tmp_path: Path
) -> None:
    """So the agent before this one runs on, beside a database that this one has migrated already."""
    rows = await asyncio.to_thread(recorded, release)
    async with foundation(tmp_path, each_edition.url) as base:
        await base.database.wait_until_up()
        await base.spool.put(rows)
        await until(lambda: not base.spool.status().rows_memory, "the rows to be shipped")
        assert base.spool.status().rejected == 0
        for row in rows:
            same = " AND ".join(f"{name} = ${number}" for number, name in enumerate(row.key, 1))
            found = await base.database.fetch(
                f"SELECT * FROM homelab.{row.table} WHERE {same}", *(row.values[name] for name in row.key)
            )
            assert len(found) == 1, row.table
            for name, value in row.values.items():
                kept = json.loads(found[0][name]) if isinstance(value, dict) else found[0][name]
                assert kept == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value), (
                    row.table,
                    name,
                )
