"""Every edition of PostgreSQL gets the schema that it can have, and `db` tells what there is."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.console import Console
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.database import commands, editions, migrations, partitions
from homelab_agent.database.address import Address
from homelab_agent.database.database import Database
from homelab_agent.database.settings import DatabaseSettings
from tests.clock import until
from tests.neighbours.postgres import PASSWORD, Postgres

FILES = {edition: migrations.load(edition) for edition in (editions.PLAIN, editions.TIMESCALE)}


async def connect(server: Postgres) -> asyncpg.Connection:
    return await asyncpg.connect(**Address.of_url(server.url).options)


async def test_the_schema_is_made_for_the_edition_and_stays_what_it_was_begun_with(any_postgres: Postgres) -> None:
    connection, kind = await connect(any_postgres), any_postgres.kind
    edition = await editions.prepare(connection)
    assert edition.name == (editions.TIMESCALE if kind == "timescale" else editions.PLAIN)
    assert bool(edition.postgis) is (kind != "wheel")
    assert bool(edition.license) is (kind in {"timescale", "apache"})
    done = await migrations.apply(connection, FILES[edition.name], edition=edition.name)
    assert done == FILES[edition.name]
    assert await migrations.apply(connection, FILES[edition.name], edition=edition.name) == []
    await connection.execute("UPDATE homelab.schema_migration SET edition = 'plain'")
    assert (await editions.look(connection)).name == editions.PLAIN
    await connection.close()


async def test_two_agents_migrate_one_database_at_a_time(any_postgres: Postgres) -> None:
    connections = [await connect(any_postgres) for _ in range(3)]
    await editions.prepare(connections[0])
    edition = (await editions.look(connections[0])).name
    done = await asyncio.gather(
        *(migrations.apply(connection, FILES[edition], edition=edition) for connection in connections)
    )
    assert sorted(each.file for applied in done for each in applied) == sorted(each.file for each in FILES[edition])
    for connection in connections:
        await connection.close()


async def test_a_migration_that_fails_leaves_nothing_behind(postgres: Postgres) -> None:
    connection = await connect(postgres)
    broken = migrations.Migration(
        "metrics", 1, "broken", "metrics/schema/0001_broken.sql", "CREATE TABLE half (); SELECT 1/0;"
    )
    with pytest.raises(migrations.MigrationFailed, match="0001_broken") as error:
        await migrations.apply(connection, [FILES["plain"][0], broken])
    assert "division by zero" in error.value.cause
    assert await connection.fetchval("SELECT to_regclass('homelab.half')") is None
    assert set(await migrations.read_applied(connection)) == {("database", 1)}
    await connection.close()


async def test_partitions_are_made_for_this_month_and_two_ahead_once(postgres: Postgres) -> None:
    connection = await connect(postgres)
    await migrations.apply(connection, FILES["plain"])
    now = SystemClock().read().wall
    for _ in range(2):
        tables = await partitions.make_ahead(connection, now)
    parts = await connection.fetchval(
        "SELECT count(*) FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE relkind = 'r'"
    )
    assert parts == tables * 3 > 0
    await connection.close()


async def test_a_changed_migration_fails_the_check_and_not_the_connection(postgres: Postgres, tmp_path: Path) -> None:
    connection = await connect(postgres)
    await migrations.apply(connection, FILES["plain"])
    await connection.execute("UPDATE homelab.schema_migration SET checksum = 'other' WHERE room = 'database'")
    await connection.close()
    settings = DatabaseSettings(url=postgres.url)
    database = Database(settings, Secrets(Redactor()), directory=tmp_path, clock=SystemClock())
    running = asyncio.create_task(database.run())
    await until(lambda: "0001_foundation" in database.schema.detail, "the change is told")
    assert database.schema.repair
    assert not database.is_up
    assert (await database.fetch("SELECT 1 AS one"))[0]["one"] == 1
    running.cancel()
    await asyncio.wait([running])


def db(server: Postgres, *words: str) -> str:
    """Run `homelab-agent db ...` against a server, without any agent."""
    console = Console(
        load=lambda: type("Settings", (), {"database": DatabaseSettings(url=server.url)}),
        find_socket=Path,
        find_state=Path,
    )
    done = CliRunner().invoke(commands.commands, words, obj=console, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert PASSWORD not in done.output
    return done.output


def test_db_shows_the_plan_then_migrates_then_tells_sizes(any_postgres: Postgres) -> None:
    server = any_postgres
    plan = db(server, "migrate", "--plan")
    assert "CREATE TABLE schema_migration" in plan
    assert server.psql("SELECT to_regclass('homelab.schema_migration')") == ""
    assert "applied homelab_agent/database/schema/0001_foundation.sql" in db(server, "migrate")
    assert "up to date" in db(server, "migrate")
    day = "generate_series(now() - interval '1 day', now(), '10 s') AS time"  # too young to be compressed meanwhile
    make = f"SELECT homelab.make_partition('homelab.load_sample', unnest(ARRAY[min(time), max(time)])) FROM {day};"
    fill = f"INSERT INTO homelab.load_sample (entity_id, time) SELECT 1, time FROM {day};"
    server.psql(fill if server.kind == "timescale" else make + fill)
    found = json.loads(db(server, "info", "--json"))
    assert found["edition"]["name"] == ("timescale" if server.kind == "timescale" else "plain")
    load = next(table for table in found["tables"] if table["name"] == "load_sample")
    assert load["bytes_per_day"] == pytest.approx(load["bytes"], rel=0.2)
    assert "load_sample" in db(server, "info")
