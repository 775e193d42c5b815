"""The four PostgreSQLs of the tests are what they say, break as they say, and leave nothing behind."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE

import asyncpg
import pytest

from tests import clock
from tests.fixtures.postgres import Servers
from tests.neighbours import postgres as neighbour
from tests.neighbours import postgres_kinds as kinds
from tests.neighbours.disk import Disks
from tests.neighbours.postgres import Postgres
from tests.processes import is_alive
from tests.waiting import until

VERSIONS = {
    "wheel": {"": kinds.NEWEST},
    "debian": {"": kinds.OF_DEBIAN, "postgis": kinds.POSTGIS},
    "timescale": {"": kinds.OF_DEBIAN, "postgis": kinds.POSTGIS, "timescaledb": kinds.TIMESCALEDB},
    "apache": {"": kinds.OF_DEBIAN, "postgis": kinds.POSTGIS, "timescaledb": kinds.TIMESCALEDB},
}

ENDED = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""What a session that was ended says of it, which depends on how much of the farewell it has still heard."""


@asynccontextmanager
async def connected(server: Postgres) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(server.url, timeout=10)
    yield connection
    await connection.close(timeout=10)


def test_each_kind_has_the_version_and_the_extensions_that_are_listed(any_postgres: Postgres) -> None:
    versions = {name: neighbour.version() for name, neighbour in VERSIONS[any_postgres.kind].items()}
    assert any_postgres.psql("SHOW server_version").split()[0] == versions.pop("")
    for extension in versions:
        any_postgres.psql(f"CREATE EXTENSION {extension}")
    offered = "SELECT name, installed_version FROM pg_available_extensions WHERE name IN ('postgis', 'timescaledb')"
    assert dict(line.split("|") for line in any_postgres.psql(offered).splitlines()) == versions


def test_postgis_and_timescaledb_work_together(postgres_timescale: Postgres) -> None:
    postgres_timescale.psql(
        "CREATE EXTENSION timescaledb; CREATE EXTENSION postgis;"
        "CREATE TABLE seen (time timestamptz NOT NULL, at geography(point)); SELECT create_hypertable('seen', 'time');"
        "INSERT INTO seen VALUES (now(), 'POINT(13.4 52.5)')"
    )
    kilometres = "SELECT round(ST_Distance(at, 'POINT(11.6 48.1)') / 1000) FROM seen"
    assert postgres_timescale.psql(kilometres) == "506"


def test_compression_comes_with_timescaledbs_own_licence(
    postgres_timescale: Postgres, postgres_apache: Postgres
) -> None:
    for server in (postgres_timescale, postgres_apache):
        server.psql(
            "CREATE EXTENSION timescaledb; CREATE TABLE fact (time timestamptz NOT NULL);"
            "SELECT create_hypertable('fact', 'time')"
        )
        assert server.psql("SHOW timescaledb.license") == server.kind
    postgres_timescale.psql("ALTER TABLE fact SET (timescaledb.compress)")
    with pytest.raises(AssertionError, match="apache"):
        postgres_apache.psql("ALTER TABLE fact SET (timescaledb.compress)")


@pytest.mark.parametrize("number", [1, 2])
def test_each_test_has_a_database_and_a_role_of_its_own(postgres: Postgres, number: int) -> None:
    databases = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
    assert postgres.psql(databases) == postgres.database
    roles = "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> 'postgres'"
    assert postgres.psql(roles) == postgres.role == postgres.psql("SELECT current_user")
    assert postgres.psql("SHOW work_mem") == "4MB"
    postgres.psql(f"CREATE TABLE mine AS SELECT {number} AS number; CREATE ROLE reader; GRANT SELECT ON mine TO reader")
    postgres.psql("CREATE DATABASE other")
    postgres.psql("ALTER SYSTEM SET work_mem = '8MB'")
    postgres.psql("SELECT pg_reload_conf()")


async def test_what_a_test_has_made_is_dropped_though_somebody_uses_it(postgres_servers: Servers) -> None:
    server = postgres_servers(kinds.TIMESCALE)
    with server.emptied():
        server.psql("CREATE EXTENSION timescaledb")  # its workers are connected too
        connection = await asyncpg.connect(server.url, timeout=10)
    with pytest.raises(ENDED):
        await connection.fetchval("SELECT 1")


async def test_frozen_it_answers_nobody_and_thawed_it_answers_the_same_question(postgres: Postgres) -> None:
    async with connected(postgres) as connection:
        postgres.freeze()
        question = asyncio.create_task(connection.fetchval("SELECT 1"))
        done, _ = await asyncio.wait([question], timeout=0.5)
        assert not done
        with pytest.raises(TimeoutError):
            await asyncpg.connect(postgres.url, timeout=0.5)
        postgres.thaw()
        assert await question == 1


@pytest.mark.parametrize("frozen", [False, True])
async def test_killed_it_refuses_and_keeps_what_was_committed(postgres: Postgres, *, frozen: bool) -> None:
    postgres.psql("CREATE TABLE kept (number integer)")
    connection = await asyncpg.connect(postgres.url, timeout=10)
    await connection.execute("INSERT INTO kept VALUES (1)")
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("INSERT INTO kept VALUES (2)")
    if frozen:
        postgres.freeze()
    postgres.kill()
    assert postgres.processes() == []
    with pytest.raises(OSError, match=r"refused|No such file"):
        await asyncpg.connect(postgres.url, timeout=10)
    with pytest.raises(ENDED):
        await connection.fetchval("SELECT 1")
    postgres.start()
    assert postgres.psql("SELECT number FROM kept") == "1"


def test_a_restart_ends_sessions_and_keeps_data(postgres: Postgres) -> None:
    postgres.psql("CREATE TABLE kept AS SELECT 1 AS number")
    before = postgres.processes()
    postgres.restart()
    assert not any(map(is_alive, before))
    assert postgres.psql("SELECT number FROM kept") == "1"


async def test_an_administrator_ends_sessions_and_new_ones_are_welcome(postgres: Postgres) -> None:
    connection = await asyncpg.connect(postgres.url, timeout=10)
    question = asyncio.create_task(connection.fetchval("SELECT pg_sleep(60)"))
    asked = "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'"
    await clock.until(lambda: postgres.psql(asked), "the question is asked")
    postgres.disconnect()
    with pytest.raises(ENDED, match="administrator command"):
        await question
    async with connected(postgres):
        pass


async def test_the_old_password_is_refused_and_sessions_go_on(postgres: Postgres) -> None:
    old = postgres.url
    async with connected(postgres) as connection:
        postgres.change_password("another")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(old, timeout=10)
        assert await connection.fetchval("SELECT 1") == 1
    async with connected(postgres):
        pass


async def test_crowded_it_takes_nobody_in_and_sessions_go_on(any_postgres: Postgres) -> None:
    async with connected(any_postgres) as connection:
        with any_postgres.crowded():
            with pytest.raises(asyncpg.TooManyConnectionsError):
                await asyncpg.connect(any_postgres.url, timeout=10)
            assert await connection.fetchval("SELECT 1") == 1
    async with connected(any_postgres):
        pass


async def test_a_locked_table_is_waited_for(postgres: Postgres) -> None:
    postgres.psql("CREATE TABLE fact AS SELECT 1 AS number")
    async with connected(postgres) as connection:
        await connection.execute("SET lock_timeout = '200ms'")
        with postgres.locked("fact"), pytest.raises(asyncpg.LockNotAvailableError):
            await connection.fetchval("SELECT number FROM fact")
        with postgres.locked("fact", mode="SHARE"):
            assert await connection.fetchval("SELECT number FROM fact") == 1
        await connection.execute("SET lock_timeout = 0")
        with postgres.locked("fact"):
            question = asyncio.create_task(connection.fetchval("SELECT number FROM fact"))
            done, _ = await asyncio.wait([question], timeout=0.2)
            assert not done
        assert await question == 1


async def test_on_a_full_disk_it_refuses_rows_and_goes_on_once_there_is_room(disk: Disks) -> None:
    small = disk(megabytes=96)
    with neighbour.running(kinds.DEBIAN, within=small.point) as server:
        server.psql("CREATE TABLE fact (content text)")
        async with connected(server) as connection:
            small.fill()
            with pytest.raises(asyncpg.DiskFullError):
                await connection.execute("INSERT INTO fact SELECT md5(n::text) FROM generate_series(1, 100000) AS n")
            small.free()
            assert await connection.fetchval("SELECT count(*) FROM fact") == 0


async def test_it_listens_on_a_port_where_that_is_asked_for() -> None:
    with neighbour.running(kinds.DEBIAN, tcp=True) as server:
        async with connected(server) as connection:
            assert await connection.fetchval("SELECT inet_server_port()") == int(await connection.fetchval("SHOW port"))
        assert server.psql("SELECT inet_server_addr() IS NULL") == "t"


def shared(server: Postgres) -> set[str]:
    """Return what the server holds of the host's shared memory: files, and segments by their number."""
    maps = Path(f"/proc/{server.pid}/maps").read_text()
    files = {line.split()[5] for line in maps.splitlines() if "/dev/shm/" in line}
    number = (server.directory / "data/postmaster.pid").read_text().splitlines()[6].split()[1]
    return {*files, number} & shared_now()


def shared_now() -> set[str]:
    """Return all that this host has of it."""
    segments = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return {*map(str, Path("/dev/shm").iterdir()), *(line.split()[1] for line in segments)}


@pytest.mark.parametrize("broken", [Postgres.freeze, Postgres.kill])
def test_nothing_is_left_of_one_that_was_closed(broken: Callable[[Postgres], object]) -> None:
    with neighbour.running(kinds.WHEEL) as server:
        processes, memory = server.processes(), shared(server)
        assert len(processes) > 3
        assert len(memory) == 2
        broken(server)
    assert not any(map(is_alive, processes))
    assert not memory & shared_now()
    assert not server.directory.exists()


SCRIPT = """
import json
from tests.integration.test_neighbour_postgres import shared
from tests.neighbours import postgres, postgres_kinds
with postgres.running(postgres_kinds.WHEEL) as server:
    print(json.dumps([str(server.directory), server.processes(), sorted(shared(server))]), flush=True)
    if input() == "freeze":
        server.freeze()
    print(flush=True)
    input()
"""


@pytest.mark.parametrize("word", ["freeze", "go on"])
def test_nothing_is_left_when_the_tests_are_killed(word: str) -> None:
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=PIPE, stdout=PIPE, text=True) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        directory, processes, memory = json.loads(run.stdout.readline())
        run.stdin.write(f"{word}\n")
        run.stdin.flush()
        run.stdout.readline()
        run.kill()
    until(lambda: not any(map(is_alive, processes)), "PostgreSQL has ended")
    until(lambda: not Path(directory).exists(), "its directory is removed")
    assert not shared_now().intersection(memory)
