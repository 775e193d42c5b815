"""The four PostgreSQLs of the tests are what they say, break as they say, and leave nothing behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from tests.neighbours import postgres as neighbour
from tests.neighbours.disk import Disks
from tests.neighbours.postgres import Postgres
from tests.processes import is_alive

EXTENSIONS = {
    "wheel": set(),
    "debian": {"postgis"},
    "timescale": {"postgis", "timescaledb"},
    "apache": {"postgis", "timescaledb"},
}


async def connect(server: Postgres) -> asyncpg.Connection:
    connection: asyncpg.Connection = await asyncpg.connect(server.url, timeout=5)
    return connection


def test_it_is_what_it_says(any_postgres: Postgres) -> None:
    major = "18" if any_postgres.kind == "wheel" else "15"
    assert any_postgres.psql("SHOW server_version").startswith(f"{major}.")
    wanted = EXTENSIONS[any_postgres.kind]
    found = any_postgres.psql("SELECT name FROM pg_available_extensions WHERE name IN ('postgis', 'timescaledb')")
    assert set(found.splitlines()) == wanted
    for extension in wanted:
        any_postgres.psql(f"CREATE EXTENSION {extension}")
    if "postgis" in wanted:
        assert any_postgres.psql("SELECT ST_AsText(ST_Point(1, 2))") == "POINT(1 2)"
    if "timescaledb" in wanted:
        assert any_postgres.psql("SHOW timescaledb.license") == any_postgres.kind
        compress = "CREATE TABLE fact (time timestamptz NOT NULL); SELECT create_hypertable('fact', 'time')"
        any_postgres.psql(compress)
        columnstore = "ALTER TABLE fact SET (timescaledb.compress)"
        if any_postgres.kind == "timescale":
            any_postgres.psql(columnstore)
        else:
            with pytest.raises(AssertionError, match="apache"):
                any_postgres.psql(columnstore)


@pytest.mark.parametrize("number", [1, 2])
def test_each_test_has_a_database_of_its_own(postgres: Postgres, number: int) -> None:
    postgres.psql("CREATE TABLE mine (number integer)")
    postgres.psql(f"INSERT INTO mine VALUES ({number})")
    assert postgres.psql("SELECT number FROM mine") == str(number)


async def test_frozen_it_answers_nobody_and_thawed_it_answers_the_same_question(postgres: Postgres) -> None:
    connection = await connect(postgres)
    postgres.freeze()
    question = asyncio.create_task(connection.fetchval("SELECT 1"))
    done, _ = await asyncio.wait([question], timeout=0.5)
    assert not done
    with pytest.raises(TimeoutError):
        await asyncpg.connect(postgres.url, timeout=0.5)
    postgres.thaw()
    assert await question == 1
    await connection.close()


@pytest.mark.parametrize("frozen", [False, True])
async def test_killed_it_refuses_and_keeps_what_was_committed(postgres: Postgres, *, frozen: bool) -> None:
    postgres.psql("CREATE TABLE kept (number integer)")
    connection = await connect(postgres)
    await connection.execute("INSERT INTO kept VALUES (1)")
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("INSERT INTO kept VALUES (2)")
    if frozen:
        postgres.freeze()
    postgres.kill()
    with pytest.raises(OSError, match=r"refused|No such file"):
        await connect(postgres)
    with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
        await connection.fetchval("SELECT 1")
    postgres.start()
    assert postgres.psql("SELECT number FROM kept") == "1"


def test_a_restart_ends_sessions_and_keeps_data(postgres: Postgres) -> None:
    postgres.psql("CREATE TABLE kept AS SELECT 1 AS number")
    before = postgres.pid
    postgres.restart()
    assert postgres.pid != before
    assert postgres.psql("SELECT number FROM kept") == "1"


async def test_on_a_full_disk_it_refuses_rows_and_goes_on_once_there_is_room(disk: Disks) -> None:
    small = disk(megabytes=160)
    with neighbour.debian(small.point) as server:
        server.psql("CREATE TABLE fact (content text)")
        connection = await connect(server)
        small.fill()
        with pytest.raises(asyncpg.DiskFullError):
            await connection.execute("INSERT INTO fact SELECT md5(n::text) FROM generate_series(1, 1000000) AS n")
        small.free()
        assert await connection.fetchval("SELECT count(*) FROM fact") == 0
        await connection.close()


def test_nothing_is_left_of_one_that_was_closed_frozen() -> None:
    with neighbour.wheel() as server:
        directory, processes = server.directory, server.processes()
        assert len(processes) > 3
        server.freeze()
    assert not any(map(is_alive, processes))
    assert not Path(directory).exists()
