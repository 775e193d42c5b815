"""A PostgreSQL under load writes itself out while it works, and an empty one is what it was from what was written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from homelab_agent.backup import docker as engine
from homelab_agent.backup import dumps
from homelab_agent.backup.dumps.dumped import Dumped
from homelab_agent.backup.dumps.errors import DumpFailed, LoadFailed, NotReady
from tests import postgres_container
from tests.dumped import dumps_of, each, whole
from tests.freezing import named
from tests.neighbours import postgres_kinds
from tests.neighbours.docker import Docker
from tests.waiting import until

ODD = "od\"d na=me's; é"
MADE = """
CREATE ROLE shop LOGIN PASSWORD 'kept as it was';
CREATE ROLE readers;
GRANT readers TO shop;
ALTER ROLE shop SET work_mem TO '5MB';
"""
OF_SHOP = """
CREATE TABLE things (id int PRIMARY KEY, said text);
INSERT INTO things SELECT number, 'thing ' || number FROM generate_series(1, 5000) number;
ALTER TABLE things OWNER TO shop;
GRANT SELECT ON things TO readers;
COMMENT ON DATABASE shop IS 'it''s :"database_name" \\ of one';
ALTER DATABASE shop SET search_path TO "$user", public, "odd, one";
ALTER DATABASE shop SET app.secret TO 'a:b\\c''d';
ALTER ROLE shop IN DATABASE shop SET work_mem TO '7MB';
REVOKE CONNECT ON DATABASE shop FROM PUBLIC;
GRANT CONNECT ON DATABASE shop TO readers;
"""
TIMESCALE = """
CREATE EXTENSION timescaledb;
CREATE TABLE measured (at timestamptz NOT NULL, value double precision);
SELECT create_hypertable('measured', 'at', chunk_time_interval => interval '1 day');
INSERT INTO measured SELECT '2026-01-01'::timestamptz + n * interval '1 minute', n % 7 FROM generate_series(1, 5000) n;
ALTER TABLE measured SET (timescaledb.compress);
SELECT compress_chunk(chunk) FROM show_chunks('measured', older_than => '2026-01-03'::timestamptz) chunk;
CREATE MATERIALIZED VIEW hourly WITH (timescaledb.continuous) AS
    SELECT time_bucket('1 hour', at) AS hour, avg(value) FROM measured GROUP BY 1;
SELECT add_retention_policy('measured', interval '10 years')
"""
ROLES = "SELECT rolname, rolpassword, rolcanlogin FROM pg_authid ORDER BY 1"
MEMBERS = "SELECT roleid::regrole, member::regrole FROM pg_auth_members ORDER BY 1"
END_OF_DUMPS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pg_dump'"
OF_DATABASES = """
SELECT datname, pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate,
    shobj_description(oid, 'pg_database'),
    (SELECT json_agg(one::text ORDER BY one::text) FROM unnest(datacl) one),
    (SELECT json_agg(setrole::text || one ORDER BY one) FROM pg_db_role_setting, unnest(setconfig) one
        WHERE setdatabase = d.oid AND setrole = 0),
    (SELECT json_agg(setrole::regrole || one ORDER BY one) FROM pg_db_role_setting, unnest(setconfig) one
        WHERE setdatabase = d.oid AND setrole > 0)
FROM pg_database d WHERE datallowconn ORDER BY 1
"""


def ask(docker: Docker, name: str, statement: str, database: str = "postgres") -> str:
    return docker(
        "exec", "-i", name, "psql", "-h", "/tmp", "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-Atq", "-d",
        postgres_container.conninfo(database), "-c", statement,
    )  # fmt: skip


async def cut(dumped: Dumped, deed: Callable[[], object]) -> None:
    """Read a dump while something befalls it."""
    async with dumped.opened() as pieces:
        await anext(pieces)
        deed()
        async for _ in pieces:
            pass


async def loaded(control: engine.Docker, name: str, taken: Mapping[str, tuple[Dumped, bytes]]) -> None:
    container = await named(control, name)
    told = {member: one.about for member, (one, _) in taken.items()}
    for member in dumps.ordered(told):
        await dumps.load(control, container.id, told[member], each(taken[member][1]))


@pytest.fixture(scope="module", autouse=True)
def image(docker_engine: Docker) -> Iterator[None]:
    """PostgreSQL's image, for all tests of this module."""
    postgres_container.image(docker_engine)
    yield
    docker_engine("image", "rm", postgres_container.IMAGE)


async def test_a_server_under_load_comes_back_whole_in_an_empty_one(docker: Docker, control: engine.Docker) -> None:
    for name in ("first", "second"):
        postgres_container.run(docker, name, name)
    for statement in (
        *MADE.split(";")[:-1],
        "CREATE DATABASE shop OWNER shop",
        f'CREATE DATABASE "{ODD.replace(chr(34), chr(34) * 2)}"',
    ):
        ask(docker, "first", statement)
    ask(docker, "first", OF_SHOP, "shop")
    ask(docker, "first", "CREATE TABLE one AS SELECT 1 AS it", ODD)
    bench = ("pgbench", "-h", "/tmp", "-U", "postgres", "postgres")
    docker("exec", "first", *bench[:1], "-i", "-q", "-s", "2", *bench[1:])
    docker("exec", "-d", "first", "sh", "-c", f"{bench[0]} -c 4 -R 200 -T 600 {' '.join(bench[1:])}")
    until(lambda: int(ask(docker, "first", "SELECT count(*) FROM pgbench_history")) > 50, "it is under load")
    taken = {
        one.member: (one, await whole(one.opened()))
        for one in await dumps_of(control, "first", "postgres", user="postgres")
    }
    assert sorted(taken) == [
        "dumps/first/globals.sql",
        "dumps/first/od%22d%20na%3Dme%27s%3B%20%C3%A9.pgdump",
        "dumps/first/postgres.pgdump",
        "dumps/first/shop.pgdump",
    ]
    assert taken["dumps/first/shop.pgdump"][1].startswith(b"PGDMP")
    assert {one.about["version"].split()[0] for one, _ in taken.values()} == {
        ask(docker, "first", "SHOW server_version").split()[0]
    }
    ask(docker, "second", "ALTER ROLE postgres PASSWORD 'its own'")
    before = ask(docker, "second", f"SELECT rolpassword FROM ({ROLES}) it WHERE rolname = 'postgres'")
    await loaded(control, "second", taken)
    assert ask(docker, "second", ROLES).replace(before, "") == ask(docker, "first", ROLES)
    assert ask(docker, "second", MEMBERS) == ask(docker, "first", MEMBERS)
    assert ask(docker, "second", OF_DATABASES) == ask(docker, "first", OF_DATABASES)
    assert ask(docker, "second", "SELECT count(*), sum(id) FROM things", "shop") == "5000|12502500"
    assert ask(docker, "second", "SELECT it FROM one", ODD) == "1"
    sums = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)"
    assert ask(docker, "second", sums) == "t"
    container = await named(control, "second")
    one, content = taken["dumps/first/shop.pgdump"]
    with pytest.raises(LoadFailed, match="has tables already"):
        await dumps.load(control, container.id, one.about, each(content))
    await dumps.load(control, container.id, one.about, each(content), database="beside")
    assert ask(docker, "second", "SELECT count(*) FROM things", "beside") == "5000"
    assert ask(docker, "second", "SHOW app.secret", "beside") == "a:b\\c'd"
    with pytest.raises(LoadFailed):
        await dumps.load(control, container.id, one.about, each(content[: len(content) // 2]), database="half")
    assert ask(docker, "second", "SELECT count(*) FROM pg_database WHERE datname = 'half'") == "0"


async def test_a_server_that_is_killed_in_the_middle_or_a_dump_that_takes_too_long_is_no_dump(
    docker: Docker, control: engine.Docker
) -> None:
    postgres_container.run(docker, "first", "first")
    ask(
        docker,
        "first",
        "CREATE TABLE large AS SELECT n, repeat(md5(n::text), 40) AS x FROM generate_series(1, 40000) n",
    )
    _, large = await dumps_of(control, "first", "postgres", user="postgres")
    with pytest.raises(DumpFailed, match="postgres of first was not dumped"):
        await cut(large, lambda: ask(docker, "first", END_OF_DUMPS))
    with pytest.raises(DumpFailed):
        await cut(large, lambda: docker("kill", "first"))
    until(lambda: not docker.state("first")["Running"], "it has ended")
    docker("start", "first")
    postgres_container.await_well(docker, "first")
    lock = "BEGIN; LOCK TABLE large IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(60)"
    docker("exec", "-d", "first", "psql", "-h", "/tmp", "-U", "postgres", "-c", lock)
    until(
        lambda: (
            ask(
                docker,
                "first",
                "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'large'::regclass",
            )
            == "1"
        ),
        "it is locked",
    )
    slow = (await dumps_of(control, "first", "postgres", user="postgres", timeout=2))[1]
    with pytest.raises(DumpFailed, match="did not end within 2 s"):
        await whole(slow.opened())


async def test_a_server_is_ready_when_it_is_the_one_that_stays(docker: Docker, control: engine.Docker) -> None:
    # As the official image does it: a server that listens to nobody is filled, ended, and started anew.
    data = postgres_container.DATA
    hidden = "-o '-c listen_addresses= -k /tmp'"
    script = (
        f"initdb -D {data} -A trust -U postgres --no-sync && pg_ctl -D {data} {hidden} -w start"
        " && psql -h /tmp -U postgres -c 'SELECT pg_sleep(3)'"
        f" && pg_ctl -D {data} -m fast -w stop && : >/tmp/filled && exec postgres -D {data} -k /tmp"
    )
    docker("volume", "create", "new")
    place = Path(docker("volume", "inspect", "--format", "{{.Mountpoint}}", "new"))
    await asyncio.to_thread(postgres_container.own, place)
    docker("run", "-d", "--name", "new", "-v", f"new:{data}", postgres_container.IMAGE, "sh", "-c", script)
    container = await named(control, "new")
    told = {"container": "new", "kind": "postgres", "what": "postgres", "user": "postgres"}
    await dumps.ready(control, container.id, told, seconds=60)
    docker("exec", "new", "sh", "-c", "[ -e /tmp/filled ]")
    docker("stop", "new")
    with pytest.raises(NotReady, match="did not take queries"):
        await dumps.ready(control, container.id, told, seconds=60)


async def test_timescaledb_comes_back_with_its_chunks_and_policies(
    docker: Docker, control: engine.Docker, tmp_path: Path
) -> None:
    files = postgres_kinds.timescale_files(tmp_path)
    for name in ("first", "second"):
        postgres_container.run(docker, name, name, files=files, words=["-c", "shared_preload_libraries=timescaledb"])
    ask(docker, "first", "CREATE DATABASE metrics")
    for statement in TIMESCALE.split(";\n"):
        ask(docker, "first", statement, "metrics")
    taken = {one.member: (one, await whole(one.opened())) for one in await dumps_of(control, "first", "postgres")}
    version = ask(docker, "first", "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'", "metrics")
    assert taken["dumps/first/metrics.pgdump"][0].about["extensions"] == {"timescaledb": version}
    await loaded(control, "second", taken)
    for question in (
        "SELECT count(*), sum(value) FROM measured",
        "SELECT * FROM hourly ORDER BY 1",
        "SELECT count(*) FROM timescaledb_information.chunks",
        "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed",
        "SELECT proc_name, schedule_interval, config FROM timescaledb_information.jobs WHERE job_id >= 1000 ORDER BY 1",
        "SHOW timescaledb.restoring",
    ):
        assert ask(docker, "second", question, "metrics") == ask(docker, "first", question, "metrics")
    ask(docker, "second", "INSERT INTO measured VALUES (now(), 1)", "metrics")
