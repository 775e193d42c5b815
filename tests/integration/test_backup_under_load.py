"""Copies of what is written to all the while: of what stands still each is good, and what is read alive says so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from homelab_agent.backup import databases
from homelab_agent.backup.archive.engine import ArchiveEngine
from homelab_agent.backup.archive.errors import Changed
from homelab_agent.backup.point import Archive
from homelab_agent.backup.settings import BackupSet, BackupSettings
from homelab_agent.backup.taking import Taking
from tests import postgres_container
from tests.backed_up import quiet
from tests.neighbours.docker import Docker

COPIES = 10
SUMS = (
    "SELECT count(*) > 0 AND sum(delta) = (SELECT sum(abalance) FROM pgbench_accounts)"
    " AND sum(delta) = (SELECT sum(bbalance) FROM pgbench_branches)"
    " AND sum(delta) = (SELECT sum(tbalance) FROM pgbench_tellers) FROM pgbench_history"
)
"""What holds between two transactions of pgbench, and at no moment within one."""


@pytest.fixture
def engine(open_directory: Path) -> ArchiveEngine:
    return ArchiveEngine(open_directory / "copies")


@pytest.fixture
def taking(docker: Docker, open_directory: Path, engine: ArchiveEngine) -> Taking:
    settings = BackupSettings(docker=docker.socket, records=open_directory / "records")
    return Taking(settings, say=quiet, event=lambda _: None)


@contextmanager
def load(docker: Docker, directory: Path, *options: str) -> Iterator[None]:
    """Have clients work with the database `db` from outside of it; fails where one of their transactions has failed."""
    postgres_container.image(docker)
    postgres_container.run(docker, "db", "pgdata", options=options)
    docker("exec", "db", "pgbench", "-h", "/tmp", "-U", "postgres", "-i", "-q", "postgres")
    said = directory / "said"
    said.mkdir(0o777)
    said.chmod(0o777)
    bench = "pgbench -h 127.0.0.1 -U postgres -n -c 2 -t 50 postgres >>/said/log 2>&1 || exit 1"
    words = ("--network", "container:db", "-v", f"{said}:/said", postgres_container.IMAGE)
    docker("run", "-d", "--name", "clients", *words, "sh", "-c", f"while [ ! -e /said/end ]; do {bench}; done")
    yield
    (said / "end").touch()
    assert docker("wait", "clients") == "0", (said / "log").read_text()
    reports = [line for line in (said / "log").read_text().splitlines() if "failed transactions" in line]
    assert reports
    assert all("failed transactions: 0 (" in line for line in reports)


async def test_each_of_ten_copies_of_a_database_under_load_starts_and_is_sound(
    docker: Docker, taking: Taking, engine: ArchiveEngine, open_directory: Path
) -> None:
    wanted = BackupSet(name="db", volumes=["pgdata"], mode="pause")
    copies: list[Archive] = []
    with load(docker, open_directory):
        for number in range(COPIES):
            done = await taking.take(wanted, engine, f"run-{number}")
            assert done.archive.verdict == "crash"
            assert done.frozen_ms["db"] > 0
            copies.append(done.archive)
    docker("stop", "db")
    for number, copy in enumerate(copies):
        back = open_directory / f"back-{number}"
        back.mkdir()
        assert (await engine.restore(copy.id, back, [], quiet)).good
        data = f"{back / 'volumes/pgdata'}:{postgres_container.DATA}"
        docker("run", "-d", "--network", "none", "--name", f"back-{number}", "-v", data, postgres_container.IMAGE)
    sizes = []
    for name in [f"back-{number}" for number in range(COPIES)]:
        await asyncio.to_thread(postgres_container.await_well, docker, name)
        assert docker("exec", name, "pg_amcheck", "-h", "/tmp", "-U", "postgres", "--install-missing", "-a") == ""
        assert postgres_container.ask(docker, name, SUMS) == "t"
        sizes.append(int(postgres_container.ask(docker, name, "SELECT count(*) FROM pgbench_history")))
        docker("rm", "-f", name)
    assert sizes == sorted(set(sizes)), "each has what was committed since the one before"


async def test_a_copy_that_is_read_alive_fails_or_says_so(
    docker: Docker, taking: Taking, engine: ArchiveEngine, open_directory: Path
) -> None:
    wanted = BackupSet(name="db", volumes=["pgdata"], mode="live")
    verdicts = []
    with load(docker, open_directory, "--label", f"{databases.LABEL}=none"):  # else it would dump
        for number in range(3):
            try:
                done = await taking.take(wanted, engine, f"run-{number}")
            except Changed:
                verdicts.append("failed")
            else:
                verdicts.append(done.archive.verdict)
    assert set(verdicts) <= {"failed", "live"}
    assert [one.verdict for one in await engine.list("db")] == [one for one in verdicts if one == "live"]
