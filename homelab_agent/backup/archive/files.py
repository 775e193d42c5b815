"""The files of the engine `archive`: `SET/SET-20261128T010000Z.tar.zst`, `.json` beside it, `.partial` until it counts.

Who writes a partial one holds a lock on it: the kernel lets that go when the writer ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from homelab_agent.core import statefile

ENDING = ".tar.zst"
PARTIAL = ".partial"
SHORT = ".json"


def begin(directory: Path, set_name: str, at: datetime) -> tuple[Path, BinaryIO]:
    """Make a new partial file, locked and for nobody else to read; raises OSError."""
    folder = directory / set_name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stem = f"{set_name}-{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    for number in range(1, 1000):
        name = stem if number == 1 else f"{stem}-{number}"
        path = folder / f"{name}{ENDING}{PARTIAL}"
        with suppress(FileExistsError):
            file = os.fdopen(
                os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w+b", buffering=0
            )
            fcntl.flock(file, fcntl.LOCK_EX)
            # Who swept may have had the lock first. And another's copy of this name counts from when its partial
            # file is gone, so only now that this one is there can it be told that there is none.
            if os.fstat(file.fileno()).st_nlink:
                if not (folder / f"{name}{ENDING}").exists():
                    return path, file
                path.unlink()
            file.close()
    raise FileExistsError(stem)


def publish(partial: Path, short: bytes) -> Path:
    """Have a partial file count, with what lies beside it; durable on return."""
    final = partial.with_name(partial.name.removesuffix(PARTIAL))
    beside = short_of(final)
    being_written = beside.with_name(beside.name + PARTIAL)
    try:
        descriptor = os.open(being_written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(short)
            file.flush()
            os.fsync(descriptor)
        being_written.rename(beside)
        partial.rename(final)
    except OSError:
        for path in (being_written, beside):
            with suppress(OSError):
                path.unlink()
        raise
    statefile.sync_directory(final.parent)
    return final


def short_of(final: Path) -> Path:
    """Return where what is known of an archive lies beside it."""
    return final.with_name(final.name.removesuffix(ENDING) + SHORT)


def finished(directory: Path, set_name: str = "") -> Iterator[Path]:
    """Yield the archives that count, of one set or of all, oldest first in each."""
    for folder in sorted(directory.glob(set_name or "*")):
        if folder.is_dir():
            yield from sorted(folder.glob(f"*{ENDING}"))


def sweep(directory: Path) -> Iterator[Path]:
    """Delete what killed writers have left, and what lies beside no archive; yield what that was."""
    for path in sorted(directory.glob(f"*/*{ENDING}{PARTIAL}")):
        # Deleted while the lock is held: who has just made it and waits for the lock finds it gone, and begins anew.
        with suppress(BlockingIOError, FileNotFoundError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            yield path
    for path in sorted((*directory.glob(f"*/*{SHORT}"), *directory.glob(f"*/*{SHORT}{PARTIAL}"))):
        archive = path.with_name(path.name.removesuffix(PARTIAL).removesuffix(SHORT) + ENDING)
        if not archive.with_name(archive.name + PARTIAL).exists() and not archive.exists():
            path.unlink(missing_ok=True)
            yield path
