"""SQLite's databases among files, by their first bytes (sqlite.org/fileformat2.html, 1.3), and whether each is whole.

A database is opened as its program would: what its journal or write-ahead log has is made good first. That changes
the file, so it is for copies only. What is in it is another's: nothing of its schema is run.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

_MAGIC = b"SQLite format 3\0"
_TOO_LONG = "not looked at to its end, which takes too long"
_STEPS = 100_000
"""Of SQLite's own machine between two looks at the clock."""


@dataclass(frozen=True, slots=True)
class Checked:
    """How many were looked at; `faults` name each that is not whole, with what SQLite says."""

    count: int = 0
    faults: Sequence[str] = field(default_factory=tuple)


async def check(top: Path, *, seconds: float) -> Checked:
    """Look at each below `top`, all of them within that time; who cancels it can be sure that no file is open."""
    limit = _Limit(time.monotonic() + seconds)
    looking = asyncio.ensure_future(asyncio.to_thread(_check, top, limit))
    try:
        return await asyncio.shield(looking)
    except asyncio.CancelledError:
        limit.end = 0.0
        await asyncio.gather(looking, return_exceptions=True)
        raise


@dataclass(slots=True)
class _Limit:
    """When it is to be over, by the monotonic clock."""

    end: float

    def is_over(self) -> bool:
        return time.monotonic() > self.end


def _check(top: Path, limit: _Limit) -> Checked:
    count, faults = 0, []
    for path in list(_found(top)):  # a look takes the file beside it away
        count += 1
        if said := _fault(path, limit):
            faults.append(f"{path.relative_to(top)}: {said}")
    return Checked(count, faults)


def _found(top: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(top):
        for name in sorted(names):
            path = Path(folder, name)
            if stat.S_ISREG(path.lstat().st_mode) and _begins(path):
                yield path


def _begins(path: Path) -> bool:
    with path.open("rb", buffering=0) as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _fault(path: Path, limit: _Limit) -> str:
    """Return what is wrong with one; "" where it is whole."""
    if limit.is_over():
        return _TOO_LONG
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            connection.set_progress_handler(limit.is_over, _STEPS)
            said = [str(line) for (line,) in connection.execute("PRAGMA integrity_check(3)")]
    except sqlite3.OperationalError as error:
        return _TOO_LONG if limit.is_over() else str(error)
    except sqlite3.Error as error:
        return str(error)
    return "" if said == ["ok"] else "; ".join(said)
