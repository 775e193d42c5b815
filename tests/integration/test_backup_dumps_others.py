"""SQLite's files, MongoDB's tools, commands of the configuration: what they write in a container, taken and given back.

`mongodump` is a stand-in here, which writes what it was given: no Debian package and no Go module has MongoDB's server.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from homelab_agent.backup import docker as engine
from homelab_agent.backup import dumps
from homelab_agent.backup.dumps.errors import DumpFailed, LoadFailed, NotAFileOfIt
from tests.dumped import dumps_of, each, whole
from tests.freezing import named
from tests.neighbours import images, neighbour
from tests.neighbours.docker import Docker
from tests.waiting import until

IDLE = ("busybox", "sleep", "1000")
WRITER = """
set -e
sqlite3 /data/app.db "PRAGMA journal_mode = MODE; CREATE TABLE pairs (a int, b int, filling blob);
    WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 20000)
    INSERT INTO pairs SELECT 0, 0, randomblob(500) FROM n"
while :; do
    sqlite3 /data/app.db '.timeout 20000' 'BEGIN IMMEDIATE' 'UPDATE pairs SET a = a + 1' 'UPDATE pairs SET b = a' COMMIT
    echo written
done
"""
STAND_IN = """#!/bin/sh
printf '%s\\n' "$@"
echo ---
cat /dev/fd/3 2>/dev/null || echo 'no fd 3'
tr '\\0' '\\n' </proc/$$/cmdline | grep -c "it's" >&2
exit 0
"""


def place(docker: Docker, volume: str) -> Path:
    return Path(docker("volume", "inspect", "--format", "{{.Mountpoint}}", volume))


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
async def test_sqlite_is_copied_at_one_moment_while_it_is_written(
    docker: Docker, control: engine.Docker, mode: str
) -> None:
    images.of_host(docker, "sqlite", ["/bin/sh", neighbour.program("sqlite3", "apt install sqlite3")])
    docker("run", "-d", "--name", "app", "-v", "files:/data", "sqlite", "sh", "-c", WRITER.replace("MODE", mode))
    top = place(docker, "files")
    until(lambda: docker("logs", "app").count("written") > 3, "it writes")
    [dumped] = await dumps_of(control, "app", "sqlite", path="/data/app.db")
    assert dumped.member == "dumps/app/data-app.db.sqlite"
    for _ in range(5):
        content = await whole(dumped.opened())
        assert state_of(content, top.parent / "copy") == [(20_000, 1)]
    seen = docker("logs", "app").count("written")
    until(lambda: docker("logs", "app").count("written") > seen, "it writes on")
    app = await named(control, "app")
    with pytest.raises(LoadFailed, match="runs"):
        await dumps.load(control, app.id, dumped.about, each(content))
    docker("kill", "app")
    (top / "app.db").chmod(0o640)
    await dumps.load(control, app.id, dumped.about, each(content))
    assert sorted(path.name for path in top.iterdir()) == ["app.db"]
    assert (top / "app.db").stat().st_mode & 0o777 == 0o640
    assert state_of((top / "app.db").read_bytes(), top.parent / "copy") == [(20_000, 1)]
    assert not [name for name in os.listdir("/var/tmp") if name.startswith("homelab-agent-sqlite-")]  # noqa: PTH208


def state_of(content: bytes, copy: Path) -> list[tuple[int, int]]:
    """Return how many rows a database has, and whether what is always written together is so in it."""
    copy.write_bytes(content)
    with closing(sqlite3.connect(copy)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return database.execute("SELECT count(*), max(a) = min(b) AND max(b) = min(a) FROM pairs").fetchall()


async def test_no_link_in_a_volume_leads_to_a_database_of_another(
    docker: Docker, control: engine.Docker, tmp_path: Path
) -> None:
    docker("run", "-d", "--name", "app", "-v", "files:/data", *IDLE)
    top = place(docker, "files")
    with closing(sqlite3.connect(tmp_path / "others.db")) as other:
        other.execute("CREATE TABLE secrets (it)")
    (top.parent / "others.db").write_bytes((tmp_path / "others.db").read_bytes())
    (top / "link.db").symlink_to(tmp_path / "others.db")
    (top / "folder").symlink_to(tmp_path)
    (top / "new.db-wal").symlink_to(tmp_path / "made")
    for path in ("/data/link.db", "/data/folder/others.db", "/data/../others.db", "/data", "/etc/passwd"):
        with pytest.raises(NotAFileOfIt):
            await dumps_of(control, "app", "sqlite", path=path)
    (top / "text.db").write_text("no database" * 1000)
    [text] = await dumps_of(control, "app", "sqlite", path="/data/text.db")
    with pytest.raises(DumpFailed, match="not a database"):
        await whole(text.opened())
    with closing(sqlite3.connect(top / "new.db")) as new:
        new.execute("CREATE TABLE one (it)")
    [fresh] = await dumps_of(control, "app", "sqlite", path="/data/new.db")
    (top / "new.db").write_bytes(_in_wal_mode((top / "new.db").read_bytes()))
    with pytest.raises(DumpFailed):
        await whole(fresh.opened())
    assert os.listdir(tmp_path) == ["others.db"]  # noqa: PTH208


async def test_mongodump_is_told_its_password_by_a_pipe(docker: Docker, control: engine.Docker) -> None:
    variables = ("-e", "MONGO_INITDB_ROOT_USERNAME=root", "-e", "MONGO_INITDB_ROOT_PASSWORD=it's a \\ $ecret")
    docker("run", "-d", "--name", "db", *variables, *IDLE)
    docker("run", "-d", "--name", "open", *IDLE)
    for name in ("db", "open"):
        write = f"cat >/bin/mongodump <<'END'\n{STAND_IN}END\nchmod 755 /bin/mongodump"
        docker("exec", name, "sh", "-c", write)
    [dumped] = await dumps_of(control, "db", "mongodb", user="root")
    assert dumped.member == "dumps/db/all.archive"
    assert (await whole(dumped.opened())).decode().splitlines() == [
        "--archive", "--username=root", "--authenticationDatabase=admin", "--config=/dev/fd/3",
        "---", "password: 'it''s a \\ $ecret'",
    ]  # fmt: skip
    [dumped] = await dumps_of(control, "open", "mongodb")
    assert (await whole(dumped.opened())).decode().splitlines() == ["--archive", "---", "no fd 3"]


async def test_a_command_is_believed_by_how_it_ends_and_its_output_given_to_the_one_that_reads_it(
    docker: Docker, control: engine.Docker
) -> None:
    docker("run", "-d", "--name", "app", *IDLE)
    load = ["sh", "-c", "cat >/tmp/back && test -s /tmp/back"]
    [good] = await dumps_of(
        control, "app", "command", command=["sh", "-c", "id -u; seq 100000"], load=load, user="nobody"
    )
    content = await whole(good.opened())
    assert content.startswith(b"65534\n1\n2\n")
    app = await named(control, "app")
    await dumps.ready(control, app.id, good.about, seconds=20)
    await dumps.load(control, app.id, good.about, each(content))
    assert (
        docker("exec", "app", "md5sum", "/tmp/back").split()[0]
        == docker("exec", "app", "sh", "-c", "(echo 65534; seq 100000) | md5sum").split()[0]
    )
    for command in (["sh", "-c", "seq 100000; echo gone >&2; exit 1"], ["true"], ["sh", "-c", "seq 9; kill -9 $$"]):
        [bad] = await dumps_of(control, "app", "command", command=command)
        with pytest.raises(DumpFailed, match="output of app was not dumped"):
            await whole(bad.opened())
    with pytest.raises(LoadFailed, match="Nothing is known"):
        await dumps.load(control, app.id, bad.about, each(content))
    [endless] = await dumps_of(control, "app", "command", command=["yes"])
    taking = asyncio.create_task(_read_while_it_runs(endless, docker))
    with pytest.raises(DumpFailed):
        await taking


async def _read_while_it_runs(endless: dumps.Dumped, docker: Docker) -> None:
    async with endless.opened() as pieces:
        await anext(pieces)
        await asyncio.to_thread(docker, "kill", "app")
        async for _ in pieces:
            pass


def _in_wal_mode(content: bytes) -> bytes:
    """Return a database as one that has a log beside it, which the format says in two bytes."""
    return content[:18] + b"\x02\x02" + content[20:]
