"""Databases come back from their dumps in place: loaded beside those that live, exchanged in a moment, and undone."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.backup import alone, beside, dumps
from homelab_agent.backup.aim import Wish
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.dumping import PlannedDump
from homelab_agent.backup.dumps.errors import LoadFailed
from homelab_agent.backup.point import Source
from homelab_agent.backup.renaming import DatabaseDisturbed
from homelab_agent.backup.restic.engine import ResticEngine
from homelab_agent.backup.restic.program import Access
from homelab_agent.backup.restore import Restoring
from homelab_agent.backup.restore_errors import AnotherFirst, DatabaseAway, LoadedByHand
from homelab_agent.backup.settings import BackupSettings, Dump
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.errors import AgentError
from tests import postgres_container, restoring
from tests.backed_up import point, quiet
from tests.freezing import named
from tests.neighbours import restic
from tests.neighbours.docker import Docker as Neighbour
from tests.restored import House, about, copied
from tests.waiting import until

WORKS = """
trap exit TERM
while :; do psql -h 127.0.0.1 -U postgres -d shop -qc 'INSERT INTO seen DEFAULT VALUES'; sleep 0.1; done
"""
MADE = """
CREATE ROLE readers;
CREATE ROLE shop LOGIN;
CREATE DATABASE shop OWNER shop;
"""
OF_SHOP = """
CREATE TABLE things AS SELECT generate_series(1, 1000) AS id;
CREATE TABLE seen (id serial PRIMARY KEY, at timestamptz DEFAULT now());
GRANT SELECT ON things TO readers;
"""
LOST = "DROP TABLE things; CREATE TABLE later AS SELECT 1 AS id; DROP OWNED BY readers; DROP ROLE readers;"
DATABASES = "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1"
POINTS = 40
"""More notes and deeds than a restore has."""
OF_INTEREST = (4, *range(7, POINTS))
"""When a database was loaded and that is not noted yet, and from where names are exchanged."""


def ask(docker: Neighbour, statement: str, database: str = "shop") -> str:
    return docker("exec", "db", "psql", "-h", "/tmp", "-U", "postgres", "-d", database, "-Atqc", statement)


@pytest.fixture
async def house(docker: Neighbour, open_directory: Path) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        yield House(docker, await stack.enter_async_context(Docker(docker.socket)), open_directory)


@pytest.fixture
def shop(docker: Neighbour) -> Neighbour:
    """An engine with a server `db`, and `app`, which writes to its database `shop` all the time."""
    postgres_container.image(docker)
    postgres_container.run(docker, "db", "pgdata")
    for statement in MADE.strip().splitlines():
        ask(docker, statement, "postgres")
    ask(docker, OF_SHOP)
    app = ("--network", "container:db", "--stop-timeout", "2", "--no-healthcheck", postgres_container.IMAGE)
    docker("run", "-d", "--name", "app", *app, "sh", "-c", WORKS)
    until(lambda: ask(docker, "SELECT count(*) > 0 FROM seen") == "t", "the application works")
    return docker


async def test_a_server_gets_its_databases_and_roles_back_while_it_runs_and_they_are_undone(
    house: House, shop: Neighbour
) -> None:
    await copied(house, Dump(container="db", user="postgres"), names=["app"])
    ask(shop, LOST)
    started = shop.state("db")["StartedAt"]
    plan = await house.restoring.plan(Wish("things"))
    assert (plan.stops, "shop of db (postgres)" in plan.loads) == (["app"], True)
    restored = await house.restore()
    assert (restored.stopped, restored.notes) == (["app"], [])
    assert restored.where == ["postgres of db", "shop of db"]
    assert ask(shop, "SELECT count(*), sum(id) FROM things") == "1000|500500"
    assert ask(shop, "SELECT has_table_privilege('readers', 'things', 'SELECT')") == "t"
    assert ask(shop, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'shop'") == "shop"
    assert shop.state("db")["StartedAt"] == started, "the server was not stopped for it"
    seen = int(ask(shop, "SELECT count(*) FROM seen"))
    until(lambda: int(ask(shop, "SELECT count(*) FROM seen")) > seen, "the application works with what came back")
    kept = await dumps.of(
        PlannedDump(await named(house.docker, "db"), Dump(container="db", user="postgres")), house.docker
    )
    assert [one.about["what"] for one in kept] == ["globals", "postgres", "shop"], "what is kept beside is not dumped"
    await house.restoring.undo(restored.undo)
    assert ask(shop, "SELECT id FROM later") == "1"
    assert ask(shop, "SELECT to_regclass('things')") == ""
    await house.restoring.undo(restored.undo)
    assert ask(shop, "SELECT count(*) FROM things") == "1000"
    assert len(ask(shop, DATABASES).split()) == 4
    settings = BackupSettings(docker=shop.socket, directory=house.copies, records=house.records, undo_days=0)
    assert await alone.expire(settings) == [restored.undo]
    assert ask(shop, DATABASES).split() == ["postgres", "shop"]
    await house.clean()


async def test_a_database_that_was_dropped_comes_back_and_goes_again(house: House, shop: Neighbour) -> None:
    archive = await house.back_up(volumes=["pgdata"])
    assert archive.verdict == "dump"
    shop("rm", "-f", "app")
    ask(shop, "DROP OWNED BY readers")
    ask(shop, "DROP DATABASE shop WITH (FORCE)", "postgres")
    ask(shop, "DROP ROLE readers", "postgres")
    restored = await house.restore(globs=["dumps/db/shop.pgdump"])
    assert restored.where == ["shop of db"]
    assert ask(shop, "SELECT count(*) FROM things") == "1000"
    await house.restoring.undo(restored.undo)
    assert "shop" not in ask(shop, DATABASES, "postgres").split()
    await house.restoring.undo(restored.undo)
    assert ask(shop, "SELECT count(*) FROM things") == "1000"
    again = await house.restore(globs=["dumps/db/shop.pgdump"])
    with pytest.raises(AnotherFirst, match=again.undo):
        await house.restoring.undo(restored.undo)
    for statement in ("DROP DATABASE shop", "CREATE DATABASE shop"):
        ask(shop, statement, "postgres")
    with pytest.raises(DatabaseDisturbed):
        await house.restoring.undo(again.undo)
    assert not await asyncio.to_thread(house.undos.unfinished), "nothing was begun that could not be ended"


@dataclass(frozen=True)
class Broken:
    """A dump that no server takes."""

    member: str

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[AsyncIterator[bytes]]:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"PGDMP, and nothing behind it"

        yield pieces()


async def test_what_cannot_be_loaded_leaves_all_as_it_is_and_stops_nobody(house: House, shop: Neighbour) -> None:
    archive = await copied(house, Dump(container="db", user="postgres"), names=["app"])
    before, started = ask(shop, DATABASES), shop.state("app")["StartedAt"]
    file = house.copies / f"{archive.id}.tar.zst"
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(AgentError):
        await house.restore()
    containers = [await named(house.docker, name) for name in ("db", "app")]
    found = await dumps.of(PlannedDump(containers[0], Dump(container="db", user="postgres")), house.docker)
    said = {**about(*containers), "dumps": {one.member: one.about for one in found}}
    broken = [Broken(one.member) if one.member.endswith("shop.pgdump") else one for one in found]
    await house.copy(about=said, dumps=broken)
    with pytest.raises(LoadFailed, match="shop was not loaded into db"):
        await house.restore()
    assert (ask(shop, DATABASES), shop.state("app")["StartedAt"]) == (before, started)
    await house.clean()
    shop("stop", "db")
    with pytest.raises(DatabaseAway, match="db is exited") as error:
        await house.restore()
    assert error.value.repair == "docker start db"
    await house.clean()


async def test_a_file_of_sqlite_comes_back_without_the_log_of_the_one_before(house: House) -> None:
    place = house.volume("files")
    (place / "deep").mkdir()
    path = place / "deep" / "app.db"

    def change(statement: str) -> None:
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(statement)

    await asyncio.to_thread(change, "CREATE TABLE kept (id); INSERT INTO kept VALUES (1), (2)")
    os.chown(path, 12345, 54321)
    path.chmod(0o640)
    (place / "beside").write_text("old")
    serve = ("--stop-timeout", "0", "busybox", "sleep", "1000")
    house.neighbour("run", "-d", "--name", "app", "-v", "files:/data", *serve)
    exclude = [f"deep/app.db{end}" for end in ("", "-wal", "-shm", "-journal")]
    dump = Dump(container="app", kind="sqlite", path="/data/deep/app.db")
    await copied(house, dump, Source("volumes/files", place, exclude))
    (place / "beside").write_text("new")
    with closing(sqlite3.connect(path)) as database:  # what is in a log of its own when the container is stopped
        database.executescript("DELETE FROM kept; CREATE TABLE later (id)")
        assert path.with_name("app.db-wal").stat().st_size > 0
        log = path.with_name("app.db-wal").read_bytes()
    path.with_name("app.db-wal").write_bytes(log)

    def ask_it() -> list[Any]:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return database.execute("SELECT name FROM sqlite_master ORDER BY 1").fetchall()

    for globs in (["dumps/**"], []):
        restored = await house.restore(globs=globs)
        assert restored.stopped == ["app"]
        assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o777) == (12345, 54321, 0o640)
        assert not path.with_name("app.db-wal").exists()
        assert (place / "beside").read_text() == ("new" if globs else "old")
        assert await asyncio.to_thread(ask_it) == [("kept",)]
        await house.restoring.undo(restored.undo)
        assert path.with_name("app.db-wal").read_bytes() == log
        assert (place / "beside").read_text() == "new"


async def test_what_is_loaded_by_hand_is_named_with_the_command(house: House) -> None:
    said = {"dumps/m/all.archive": {"container": "m", "kind": "mongodb", "what": "all"}}
    await house.copy(about={"dumps": said}, dumps=[Broken("dumps/m/all.archive")])
    with pytest.raises(LoadedByHand, match="all of m") as error:
        await house.restore()
    assert "docker exec -i m mongorestore --archive --drop < copy/dumps/m/all.archive" in error.value.repair
    await house.clean()


async def test_killed_at_any_point_a_server_has_the_old_databases_or_the_new_ones(
    house: House, shop: Neighbour
) -> None:
    await _killed(house, shop, OF_INTEREST)


@pytest.mark.soak
async def test_killed_at_every_point_a_server_has_the_old_databases_or_the_new_ones(
    house: House, shop: Neighbour
) -> None:
    await _killed(house, shop, range(POINTS))


async def _killed(house: House, shop: Neighbour, points: Sequence[int]) -> None:
    archive = await copied(house, Dump(container="db", user="postgres"), names=["app"])
    ask(shop, LOST)
    settings = BackupSettings(docker=shop.socket, directory=house.copies, records=house.records)
    steps: list[str] = []
    for count in points:
        task = restoring.Task(
            *(str(shop.socket), str(house.copies), str(house.records), "things", [archive.id]),
            dies_at=count,
            globs=["dumps/db/shop.pgdump"],
        )
        with restoring.running(task) as child:
            code = await asyncio.to_thread(child.wait, 60)
        assert code in {0, -9}
        steps += [one.step for one in await asyncio.to_thread(house.undos.list)]
        if steps[-2:] == ["replacing", "replacing"]:
            shop("stop", "db")  # as after a power cut: it is started for what is left to do
        await alone.resume(settings)
        is_new = ask(shop, "SELECT to_regclass('things')") == "things"
        assert shop.state("app")["Status"] == "running"
        assert len(ask(shop, DATABASES).split()) == (3 if is_new else 2)
        assert is_new or code == -9
        if is_new:
            break
    assert steps.count("replacing") == 2, "it died before and after the names were exchanged"
    assert {undo.step for undo in await asyncio.to_thread(house.undos.list)} == {"kept"}


async def test_a_dump_comes_back_from_restic_in_place_and_as_a_file(house: House, open_directory: Path) -> None:
    restic.program()
    access = Access("offsite", str(open_directory / "repository"), "secret")
    engine = ResticEngine(access, house.records, host="attic", clock=SystemClock(), tell=lambda _: None)
    await engine.init(kit_is_kept=True)
    place = house.volume("files")
    path = place / "app.db"

    def change(statement: str) -> None:
        with closing(sqlite3.connect(path)) as database:
            database.executescript(statement)

    await asyncio.to_thread(change, "CREATE TABLE kept (id)")
    house.neighbour("run", "-d", "--name", "app", "-v", "files:/data", "--stop-timeout", "0", "busybox", "sleep", "100")
    container = await named(house.docker, "app")
    (found,) = await dumps.of(
        PlannedDump(container, Dump(container="app", kind="sqlite", path="/data/app.db")), house.docker
    )
    source = Source("volumes/files", place, [f"app.db{end}" for end in ("", "-wal", "-shm", "-journal")])
    what = point(source, about={**about(container), "dumps": {found.member: found.about}}, dumps=[found])
    archive = await engine.finish(await engine.copy(what, quiet), what, quiet)
    await asyncio.to_thread(change, "DROP TABLE kept")
    await Restoring(engine, house.docker, house.records).restore(Wish("things", trust=archive.sha256))
    await asyncio.to_thread(change, "SELECT id FROM kept")
    into = open_directory / "into"
    await asyncio.to_thread(into.mkdir)
    await engine.restore(archive.id, into, [], quiet)
    await asyncio.to_thread(beside.join, into, await engine.contents(archive.id))
    with closing(sqlite3.connect(into / found.member)) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("kept",)]
