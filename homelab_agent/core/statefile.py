"""The file `state.db` and what stands beside it: found, judged, set aside, begun anew.

    state.db      the agent's SQLite database, with -wal and -shm
    state.id      marker: a state.db was begun here; written last, never beside an unfinished one
    state.lost    what was lost and where it was set aside, until the operator has read and removed it

Nothing in this process may open state.db but SQLite: to close any descriptor of a file drops all locks that
the process has on it (fcntl(2)), SQLite's own among them.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from errno import ENOENT
from pathlib import Path

from homelab_agent.core.errors import AgentError

APPLICATION_ID = 0x686C6167
"""In the header of every state.db, so that an emptied or foreign file is known as such ("hlag" in ASCII)."""

WAL_PAGES = 1000
WAL_BYTES = 4 * 1024 * 1024
"""After so many pages the log is carried over into state.db; begun anew, it is cut back to so many bytes."""

BUSY_SECONDS = 5.0
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_UNAVAILABLE = _DAMAGED | {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_PROTOCOL,
}


class Examination(StrEnum):
    """How closely a file is looked at: as at each start, or, index by index, after SQLite met damage in it."""

    QUICK = "quick_check"
    FULL = "integrity_check"


class StateUnavailable(AgentError):
    """The agent's state in {directory} cannot be {done}."""

    repair = "{repair}"


def is_damage(error: BaseException) -> bool:
    """Return whether SQLite found the file itself to be wrong."""
    return _code(error) in _DAMAGED


def is_full(error: BaseException) -> bool:
    """Return whether the disk had no room."""
    return _code(error) == sqlite3.SQLITE_FULL


def is_unavailable(error: BaseException) -> bool:
    """Return whether the disk, the directory or the file is at fault, not the statement."""
    return isinstance(error, OSError) or _code(error) in _UNAVAILABLE


def unavailable(directory: Path, error: BaseException, *, done: str) -> StateUnavailable:
    """Return what to raise for `error`, with the repair that fits it."""
    code = _code(error)
    if code == sqlite3.SQLITE_FULL:
        repair = f"Free some space: df -h {directory}. The agent goes on by itself."
    elif is_damage(error):
        repair = "The next write sets the damaged file aside; look for disk errors: journalctl -k -p err"
    elif code == sqlite3.SQLITE_IOERR:
        repair = f"Look for disk errors and space: journalctl -k -p err; df -h {directory}"
    elif code == sqlite3.SQLITE_BUSY:
        repair = f"Find the other program that writes to it: fuser -v {directory / 'state.db'}"
    else:
        repair = f"Let the agent's user write there: ls -ld {directory}; findmnt -T {directory}"
    return StateUnavailable(directory=directory, done=done, repair=repair, cause=error)


def read_scripts(schemas: Sequence[Path]) -> list[str]:
    """Return core's own schema and those of the rooms, in the order in which they are applied."""
    own = sorted((Path(__file__).parent / "schema").glob("*.sql"))
    return [path.read_text() for path in [*own, *schemas]]


def open_writer(
    directory: Path, scripts: Sequence[str], *, examine: Examination | None, now: datetime
) -> sqlite3.Connection:
    """Open `state.db` for its one writer; begin it where there is none or, if `examine`, none that is whole.

    Raises sqlite3.Error or OSError; then nothing is open and another try may follow.
    """
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    database = directory / "state.db"
    if examine or not database.exists():
        damage = _damage(directory, examine or Examination.QUICK)
        if damage:
            _set_aside(directory, damage, now)
    if not database.exists():
        # Created here and not by SQLite: the group may read it, and a failure says what the system said.
        os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640))
    connection = _connect(database)
    try:
        _prepare(connection, scripts)
        if not (directory / "state.id").exists():
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            write_durably(directory / "state.id", f"{uuid.uuid4()}\n")
    except BaseException:
        connection.close()
        raise
    return connection


def read_only(directory: Path) -> sqlite3.Connection:
    """Return a connection that can only read, for the command line; raises `StateUnavailable`."""
    try:
        return open_reader(directory)
    except (sqlite3.Error, OSError) as error:
        raise unavailable(directory, error, done="read") from error


def open_reader(directory: Path) -> sqlite3.Connection:
    """Return a connection that can only read; raises sqlite3.Error or OSError.

    Beside a running agent it sees what is committed. Without one, in a directory that it may not write to,
    SQLite cannot make the files that WAL needs; then nobody else writes either, and the file is read as it
    lies there.
    """
    database = directory / "state.db"
    if not database.exists():
        raise FileNotFoundError(ENOENT, "there is no state.db; the agent makes it when it starts")
    uri = _uri(database)
    try:
        return _reader(uri)
    except sqlite3.OperationalError:
        if (directory / "state.db-wal").exists():
            raise
        return _reader(f"{uri}&immutable=1")


def read_loss(directory: Path) -> str:
    """Return what was lost and where it was set aside; "" if nothing was or the note has been removed.

    Raises OSError where the disk is not there any more: the marker, unlike the note, always is.
    """
    if (marker := directory / "state.id").exists():
        marker.read_bytes()
    try:
        return (directory / "state.lost").read_text().strip()
    except FileNotFoundError:
        return ""


def _code(error: BaseException) -> int | None:
    """Return SQLite's primary result code (https://www.sqlite.org/rescode.html), None for any other error."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def _connect(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(database, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)


def _uri(database: Path) -> str:
    return f"{database.absolute().as_uri()}?mode=ro"


def _reader(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)
    try:
        connection.execute("PRAGMA cache_size = -512")
        connection.execute("SELECT count(*) FROM sqlite_schema")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, scripts: Sequence[str]) -> None:
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "secure_delete = FAST",  # Debian's default overwrites freed pages: twice the writing on an SD card
        "foreign_keys = ON",
        "temp_store = MEMORY",
        "cache_size = -1024",
        f"wal_autocheckpoint = {WAL_PAGES}",
        f"journal_size_limit = {WAL_BYTES}",
    ):
        connection.execute(f"PRAGMA {pragma}")
    for script in scripts:
        connection.executescript(f"BEGIN IMMEDIATE;\n{script}\n;COMMIT;")
    if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _damage(directory: Path, examine: Examination) -> str:
    """Return what is wrong with the database in words, "" when it is whole or was never begun.

    Raises OSError or sqlite3.Error when that cannot be told.
    """
    database = directory / "state.db"
    begun = (directory / "state.id").exists()
    if not database.exists():
        return "is gone" if begun else ""
    try:
        # Read-only, so that a damaged file and its log stay as they were found.
        with contextlib.closing(_reader(_uri(database))) as connection:
            verdict = connection.execute(f"PRAGMA {examine}(1)").fetchone()[0]
            (owner,) = connection.execute("PRAGMA application_id").fetchone()
        if verdict != "ok":
            return f"is damaged ({examine}: {' '.join(verdict.split())})"
        with contextlib.closing(_connect(database)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE examined (id)")
            connection.execute("ROLLBACK")
    except UnicodeDecodeError:  # of SQLite's message about a schema that is no text any more
        return "is damaged (its schema cannot be read)"
    except sqlite3.DatabaseError as error:
        # A header with an unknown version number also makes a file "read-only" (SQLite's file format, 1.3).
        refuses = _code(error) == sqlite3.SQLITE_READONLY and _is_writable(directory, database)
        if is_damage(error) or _code(error) == sqlite3.SQLITE_ERROR or refuses:
            return f"is damaged ({error})"
        raise
    return "holds nothing of the agent's" if begun and owner != APPLICATION_ID else ""


def _is_writable(*paths: Path) -> bool:
    return all(os.access(path, os.W_OK, effective_ids=True) for path in paths)


def _set_aside(directory: Path, damage: str, now: datetime) -> None:
    stamp = now.astimezone(UTC).replace(microsecond=0)
    while (aside := directory / f"state.db.corrupt-{stamp:%Y%m%dT%H%M%SZ}").exists():
        stamp += timedelta(seconds=1)
    found = [suffix for suffix in ("", "-wal", "-shm") if (directory / f"state.db{suffix}").exists()]
    kept = f"; what was found of it is kept as {aside.name}" if found else ""
    note = f"{stamp:%Y-%m-%dT%H:%M:%SZ} state.db {damage}{kept}."
    # The note comes first: a crash between the two says it twice, never not at all.
    write_durably(directory / "state.lost", f"{read_loss(directory)}\n{note}\n".lstrip())
    for suffix in found:
        (directory / f"state.db{suffix}").rename(f"{aside}{suffix}")
    sync_directory(directory)


def write_durably(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Replace a file, on disk when this returns; a power cut leaves the old one or the new one; raises OSError.

    `mode` is that of a file that is made, less the umask.
    """
    new = path.with_name(f"{path.name}.new")
    with open(new, "w", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Put a directory's entries on disk, so that a rename in it outlives a power cut; raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
