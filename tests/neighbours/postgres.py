"""A real PostgreSQL on a unix socket, or a port of the loopback interface: one of the kinds in postgres_kinds.py.

It runs as an ordinary user also when the tests run as root. It goes when its context ends or the tests are dead.
"""

from __future__ import annotations

import itertools
import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from tests.neighbours.guard import guarded
from tests.neighbours.ports import free_port
from tests.neighbours.postgres_kinds import Kind
from tests.neighbours.server import Server
from tests.processes import state
from tests.waiting import until

PASSWORD = "s3cret-pa/ss:word"
_PORT = 5432
_SUPERUSER = "postgres"
_SETTINGS = (
    "fsync=off",  # no test cuts the host's power
    "authentication_timeout=600",  # see `crowded`
)

_DROP = rf"""
SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database
 WHERE datname NOT IN ('postgres', 'template0', 'template1') \gexec
SELECT format('DROP ROLE %I', rolname) FROM pg_roles WHERE rolname <> '{_SUPERUSER}' AND rolname !~ '^pg_' \gexec
ALTER SYSTEM RESET ALL;
SELECT pg_reload_conf();
"""


class Postgres(Server):
    """One server, broken as one likes, that then goes on with its data.

    `url` and `psql` are those of a role and a database that are one test's own (see `emptied`).
    """

    def __init__(self, kind: Kind, programs: Path, directory: Path, *, data: Path, port: int = 0) -> None:
        """It listens on a socket in `directory`, and where given on a port of the loopback interface."""
        self.kind = kind.name
        self.directory = directory
        self.role = self.database = ""
        self.password = PASSWORD
        self._programs = programs
        self._data = data
        self._numbers = itertools.count(1)
        self._address = f"127.0.0.1:{port}" if port else ""
        self._port = port or _PORT
        listening = (f"listen_addresses={'127.0.0.1' if port else ''}", f"port={self._port}")
        settings = (*listening, f"unix_socket_directories={directory}", *_SETTINGS, *kind.settings)
        words = [word for setting in settings for word in ("-c", setting)]
        super().__init__(
            f"PostgreSQL ({kind.name})",
            [*_as_user("--pdeathsig", "QUIT"), programs / "postgres", "-D", data, *words],
            ready=self._answers,
            log=directory / "log",
            env=_environment(),
        )

    @property
    def url(self) -> str:
        """What goes into `[database] url`."""
        return self.url_at(self._address) if self._address else f"{self.url_at('')}?host={self.directory}"

    def url_at(self, address: str) -> str:
        """Return the same for who reaches it by another host and port."""
        return f"postgresql://{self.role}:{quote(self.password, safe='')}@{address}/{self.database}"

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.directory / f".s.PGSQL.{self._port}"

    def psql(self, statement: str) -> str:
        """Run SQL in the test's database and return what it prints, unaligned; fail when it fails."""
        return _run([*self._psql(self.role, self.database), "-c", statement], password=self.password)

    def make(self) -> None:
        """Make the data directory and start the server."""
        given = self.directory / "password"
        given.write_text(PASSWORD)
        self._data.mkdir()
        for path in (self.directory, given, self._data):
            _give(path)
        words = [f"--pgdata={self._data}", f"--username={_SUPERUSER}", f"--pwfile={given}", "--auth=scram-sha-256"]
        _run([*_as_user(), self._programs / "initdb", *words, "--no-sync"])
        self.start()

    @contextmanager
    def emptied(self) -> Iterator[None]:
        """Give an empty database and a role, which may do everything, until the context ends.

        Then what was broken is mended, and every database, role and setting that was made meanwhile is dropped.
        """
        self.heal()
        self.role = self.database = f"homelab_{next(self._numbers)}"
        self.password = PASSWORD
        self._ask(f"CREATE ROLE {self.role} SUPERUSER LOGIN PASSWORD '{PASSWORD}';")
        # Nobody is ever connected to template0; TimescaleDB looks into every other database.
        self._ask(f"CREATE DATABASE {self.database} OWNER {self.role} TEMPLATE template0;")
        try:
            yield
        finally:
            self.heal()
            self._ask(_DROP)

    def heal(self) -> None:
        """Bring the server back to answering, whatever a test did to it."""
        if self.runs:
            self.thaw()
            until(self._answers, f"{self.name} answers")
        else:
            self.start()

    def freeze(self) -> None:
        """Let the server and every session answer nobody; connections stay, and new ones wait."""
        super().freeze()
        until(lambda: {state(pid) for pid in self.processes()} == {"T"}, f"{self.name} is frozen")

    def stop(self, number: int = signal.SIGINT, *, seconds: float = 30.0) -> int:
        """End the server: its sessions are ended, and what they had not committed is undone."""
        return super().stop(number, seconds=seconds)

    def restart(self) -> None:
        """Stop and start, as an upgrade of the package does."""
        self.stop()
        self.start()

    def disconnect(self) -> None:
        """End every session of the test's database, as an administrator does (SQLSTATE 57P01)."""
        self._ask(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.database}';")

    def change_password(self, password: str) -> None:
        """Refuse who logs in with the old one (SQLSTATE 28P01); sessions go on, and `url` has the new one."""
        self._ask(f"ALTER ROLE {self.role} PASSWORD '{password}';")
        self.password = password

    @contextmanager
    def crowded(self) -> Iterator[None]:
        """Leave no connection free until the context ends, for superusers neither (SQLSTATE 53300); sessions go on.

        They are taken by clients that have been asked for a password and say nothing.
        """
        words = f"user\0{self.role}\0database\0{self.database}\0\0".encode()
        # https://www.postgresql.org/docs/current/protocol-message-formats.html, StartupMessage: length, version 3.0.
        hello = (8 + len(words)).to_bytes(4) + (3 << 16).to_bytes(4) + words
        with ExitStack() as stack:
            answer = b"R"
            while answer.startswith(b"R"):
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.settimeout(20)
                client.connect(str(self.socket))
                client.sendall(hello)
                answer = client.recv(1024)
            assert b"C53300\0" in answer, answer
            yield
        until(self._answers, "a connection is free again")

    @contextmanager
    def locked(self, table: str, *, mode: str = "ACCESS EXCLUSIVE") -> Iterator[None]:
        """Hold a lock on a table until the context ends."""
        lock = f"SET lock_timeout = '20s'; BEGIN; LOCK TABLE {table} IN {mode} MODE;\n\\echo held\n"
        with subprocess.Popen(
            self._psql(self.role, self.database),
            env=_environment(self.password),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as holder:
            assert holder.stdin is not None
            assert holder.stdout is not None
            holder.stdin.write(lock)
            holder.stdin.flush()
            assert holder.stdout.readline() == "held\n", f"{table} could not be locked"
            yield

    def processes(self) -> list[int]:
        """Return the server's process and its children: each has a session of its own, but the same directory."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (entry / "cwd").readlink() == self._data:
                    found.append(int(entry.name))
        return found

    def _ask(self, script: str) -> None:
        """Run SQL, and psql's own commands, as the role that is always there."""
        _run(self._psql(_SUPERUSER, "postgres"), given=script, password=PASSWORD)

    def _answers(self) -> bool:
        env = {**_environment(PASSWORD), "PGCONNECT_TIMEOUT": "5"}
        argv = [*self._psql(_SUPERUSER, "postgres"), "-c", "SELECT"]
        return subprocess.run(argv, env=env, capture_output=True, timeout=60, check=False).returncode == 0

    def _psql(self, role: str, database: str) -> list[str | Path]:
        where = ["-h", str(self.directory), "-p", str(self._port), "-U", role, "-d", database]
        return [self._programs / "psql", "--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", *where]

    def _signal(self, number: int) -> None:
        self.send(number)
        if number == signal.SIGSTOP:
            until(lambda: state(self.pid) == "T", "no session begins any more")
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _wait(self, seconds: float) -> int:
        code = super()._wait(seconds)
        until(lambda: not self.processes(), f"the sessions of {self.name} have ended")
        return code


@contextmanager
def started(kind: Kind, *, within: Path | None = None, tcp: bool = False) -> Iterator[Postgres]:
    """Give a server that is nobody's yet; its data lie `within` a directory, as of a small disk, where one is given.

    Raises `Missing` where that kind cannot be had.
    """
    with guarded("pg") as directory:
        data = (within or directory) / "data"
        with Postgres(
            kind, kind.put(directory), directory, data=data, port=free_port() if tcp else 0
        ).lasting() as server:
            server.make()
            yield server


@contextmanager
def running(kind: Kind, *, within: Path | None = None, tcp: bool = False) -> Iterator[Postgres]:
    """Give a server of one's own, with a role and an empty database; see `started`."""
    with started(kind, within=within, tcp=tcp) as server, server.emptied():
        yield server


def _environment(password: str = "") -> dict[str, str]:
    """Return an environment that names nobody else's PostgreSQL."""
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "PGPASSWORD": password}


def _run(argv: Sequence[str | Path], *, given: str = "", password: str = "") -> str:
    done = subprocess.run(
        argv,
        env=_environment(password),
        cwd="/",
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, argv))}: {done.stderr}"
    return done.stdout.strip()


def _as_user(*more: str) -> list[str]:
    """Return the words that run a command as an ordinary user: PostgreSQL refuses to be root's."""
    if os.geteuid() != 0:
        return ["setpriv", *more] if more else []
    user = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *more]


def _give(path: Path) -> None:
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody")
        os.chown(path, user.pw_uid, user.pw_gid)
