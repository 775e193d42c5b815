"""A copy of `state.db` as it is at one moment, while the agent writes: SQLite's online backup.

https://www.sqlite.org/backup.html; what is read in one step is of one moment, and keeps no writer waiting (WAL).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from homelab_agent.core import statefile

_PIECE_BYTES = 1024 * 1024
_PREFIX = ".state.db.copy-"


def pieces(directory: Path) -> Iterator[bytes]:
    """Yield the file of a copy piece by piece; blocking. Raises `StateUnavailable`, also where the original is damaged.

    It takes as much room in `directory` as `state.db` has, in a file that no longer has a name and so goes with us.
    """
    try:
        with contextlib.closing(statefile.open_reader(directory)) as source:
            source.execute("BEGIN")
            verdict = source.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            descriptor = _copied(source, directory)
    except (sqlite3.Error, OSError) as error:
        raise statefile.unavailable(directory, error, done="copied") from error
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def settle(directory: Path) -> None:
    """Carry the log of `state.db` over into it, and remove that; raises `StateUnavailable`."""
    if not (database := directory / "state.db").exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise statefile.unavailable(directory, error, done="settled") from error


def _copied(source: sqlite3.Connection, directory: Path) -> int:
    """Return a descriptor that the copy is read from."""
    descriptor, name = tempfile.mkstemp(prefix=_PREFIX, dir=directory)
    try:
        with contextlib.closing(sqlite3.connect(name, isolation_level=None)) as target:
            # Without a journal SQLite needs the name no more once it has opened the file.
            target.execute("PRAGMA journal_mode = OFF")
            target.execute("PRAGMA synchronous = OFF")
            target.execute("SELECT count(*) FROM sqlite_schema")
            Path(name).unlink()
            source.backup(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        os.close(descriptor)
        raise
    return descriptor
