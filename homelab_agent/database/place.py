"""Where the embedded server's files lie: all of them inside the agent's state directory.

STATE/postgres/            the agent's; others may pass through (as root), not list
    pgpass                 the password, 0600, in the format that `PGPASSFILE` wants
    log, log.old           what the server says, bounded
    socket/                0700; or `socket.path` says where, when this path is too long for a socket
    18/data                the cluster of major version 18, 0700
    18/data.new            one being made; gone or renamed to `data` when it is whole
    18/programs            its programs
    15/retired             a mark: its data live on in a newer version; kept for 7 days
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from homelab_agent.core.errors import AgentError
from homelab_agent.database.account import Account

ROLE = "homelab"
DATABASE = "homelab"
PORT = 5432
UPGRADE_PORT = 5433
"""Ports only name sockets here (`.s.PGSQL.5432`): nothing listens on TCP."""

_SOCKET_NAME_MAX = 107 - len(f"/.s.PGSQL.{PORT}.lock")
"""sun_path holds 108 bytes with its closing zero (unix(7))."""


class StateUnreachable(AgentError):
    """The embedded PostgreSQL runs as {user}, who may not pass through {directory}."""

    repair = "set [agent] state to a directory below /var/lib, or run: chmod o+x {directory}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """One major version's files."""

    major: int
    directory: Path

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    @property
    def fresh(self) -> Path:
        """The data directory while it is being made."""
        return self.directory / "data.new"

    @property
    def programs(self) -> Path:
        """The programs that belong to the data."""
        return self.directory / "programs"

    @property
    def dump(self) -> Path:
        """What an older version's server gave, on its way into `fresh`."""
        return self.directory / "dump"

    @property
    def retired(self) -> Path:
        """The mark that a newer version has taken over."""
        return self.directory / "retired"

    @property
    def in_use(self) -> bool:
        """Whether there is a whole data directory that is in use."""
        return (self.data / "PG_VERSION").exists() and not self.retired.exists()


@dataclass(frozen=True, slots=True)
class Place:
    """The directory of the embedded server, and whom the server runs as."""

    directory: Path
    account: Account

    @classmethod
    def of(cls, state: Path, account: Account) -> Place:
        """Return the place inside the agent's state directory."""
        return cls(state / "postgres", account)

    @property
    def pgpass(self) -> Path:
        """The file that holds the password."""
        return self.directory / "pgpass"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.directory / "log"

    def cluster(self, major: int) -> Cluster:
        """Return one major version's files, whether they are there or not."""
        return Cluster(major, self.directory / str(major))

    def clusters(self) -> list[Cluster]:
        """Return the clusters that hold data, retired ones included, the newest first."""
        names = (path.name for path in self.directory.glob("*"))
        numbers = sorted((int(name) for name in names if name.isdecimal()), reverse=True)
        found = (self.cluster(number) for number in numbers)
        return [cluster for cluster in found if (cluster.data / "PG_VERSION").exists()]

    def used(self) -> Cluster | None:
        """Return the cluster whose data are the present ones; None when there are none yet."""
        return next((cluster for cluster in self.clusters() if cluster.in_use), None)

    def prepare(self) -> None:
        """Make the directory; raises `StateUnreachable` when the server's user cannot reach it.

        Changes no mode outside the state directory; that directory itself is made passable for others, where the
        server is another user.
        """
        foreign = self.account.uid != os.geteuid()
        self.directory.mkdir(mode=0o711 if foreign else 0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o711 if foreign else 0o700)
        if not foreign:
            return
        state = self.directory.parent
        if not self.account.may_pass(state):
            state.chmod(state.stat().st_mode & 0o7777 | 0o001)
        for parent in reversed(state.resolve().parents):
            if not self.account.may_pass(parent):
                raise StateUnreachable(user=self.account.name, directory=parent)

    def hand_over(self, directory: Path) -> Path:
        """Make an empty directory that is the server's alone, in place of whatever was there."""
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        self.account.own(directory)
        return directory

    def password(self) -> str:
        """Return the password of the one role there is; "" when it is not set yet or was lost."""
        try:
            return self.pgpass.read_text().strip().rpartition(":")[2]
        except FileNotFoundError:
            return ""

    def new_password(self) -> str:
        """Make a new password and keep it."""
        password = secrets.token_urlsafe(24)
        self._write_private(self.pgpass, f"*:*:*:{ROLE}:{password}\n")
        return password

    def _write_private(self, path: Path, text: str) -> None:
        """Write a file that only the server and root may read; whole, and on disk, or not at all."""
        fresh = path.with_name(f"{path.name}.new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        self.account.own(fresh)
        fresh.rename(path)

    def socket(self) -> Path:
        """Return the directory of the server's socket; raises `FileNotFoundError` where there is none."""
        if _fits(near := self.directory / "socket"):
            return near
        return Path((self.directory / "socket.path").read_text())

    def make_socket_directory(self) -> Path:
        """Make the directory of the server's socket: beside the data, or at a short path that is written down."""
        if _fits(near := self.directory / "socket"):
            if not near.is_dir():
                self.hand_over(near)
            return near
        try:
            if _is_private(known := self.socket(), self.account):
                return known
        except FileNotFoundError:
            pass
        short = Path(tempfile.mkdtemp(prefix="homelab-agent-", dir=_short_base()))
        self.account.own(short)
        (self.directory / "socket.path").write_text(str(short))
        return short

    def drop_socket_directory(self) -> None:
        """Remove the socket's directory where it is outside the state directory."""
        note = self.directory / "socket.path"
        if note.exists():
            shutil.rmtree(note.read_text(), ignore_errors=True)
            note.unlink()


def sync_directory(directory: Path) -> None:
    """Put a directory's entries on disk, so that a rename in it outlives a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory)) <= _SOCKET_NAME_MAX


def _is_private(directory: Path, account: Account) -> bool:
    if not directory.is_dir() or directory.is_symlink():
        return False
    found = directory.stat()
    return found.st_uid == account.uid and not found.st_mode & 0o077


def _short_base() -> str:
    candidates = ("/run",) if os.geteuid() == 0 else (os.environ.get("XDG_RUNTIME_DIR", ""),)
    return next((path for path in candidates if path and os.access(path, os.W_OK)), tempfile.gettempdir())
