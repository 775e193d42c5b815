"""Archives are read: whole, to prove or to unpack them, or a dump of them; for a thread, but for `dump`."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import zstandard

from homelab_agent.backup import patterns
from homelab_agent.backup.archive import appendix, files, manifest, members, tar
from homelab_agent.backup.archive.errors import Unreadable
from homelab_agent.backup.archive.manifest import Comparison
from homelab_agent.backup.archive.members import Member
from homelab_agent.backup.archive.stream import CHUNK, Ahead, Hashing, Pipe
from homelab_agent.backup.point import Contents, Verified
from homelab_agent.core.errors import describe

UNREADABLE = (tar.Damaged, zstandard.ZstdError, ValueError)
"""What a damaged archive raises."""


@dataclass(frozen=True, slots=True)
class Whole:
    """What reading an archive whole has shown."""

    count: int
    """Of its members."""
    tar_bytes: int
    sha256: str
    hashing: Hashing = field(repr=False)
    """Has hashed all that was read; goes on with what follows."""

    @property
    def total(self) -> bytes:
        """What the last line of its manifest says of it."""
        return manifest.total(sha256=self.sha256, tar_bytes=self.tar_bytes, count=self.count)


def read(
    file: BinaryIO,
    length: int,
    take: Callable[[Member], object],
    *,
    told: Callable[[int], None],
    devices: bool,
    give: Callable[[bytes | memoryview], object] | None = None,
) -> Whole:
    """Read so many bytes of a file as an archive; `take` gets each member when it was read."""
    hashing = Hashing(file, length)
    reader = zstandard.ZstdDecompressor().stream_reader(cast("IO[bytes]", hashing), read_size=CHUNK)
    count = 0
    with closing(Ahead(reader.read)) as ahead:
        stream = tar.Reader(ahead.take)
        for member in members.members(stream, devices=devices, told=told, give=give):
            take(member)
            count += 1
    hashing.rest()
    return Whole(count, stream.taken, hashing.sha256, hashing)


def verify(path: Path, archive_id: str, told: Callable[[int], None]) -> Verified:
    """Return what reading one whole from the disk has shown."""
    with _opened(path, archive_id) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return _compare(file, path, archive_id, told, None, devices=True)


def unpack(path: Path, archive_id: str, told: Callable[[int], None], pipe: Pipe, *, devices: bool) -> Verified:
    """Return what reading one whole has shown, while `pipe` gets what is unpacked; closes it."""
    with closing(pipe), _opened(path, archive_id) as file:
        return _compare(file, path, archive_id, told, pipe.give, devices=devices)


@contextmanager
def _opened(path: Path, archive_id: str) -> Iterator[BinaryIO]:
    try:
        with path.open("rb", buffering=0) as file:
            yield file
    except OSError as error:
        raise Unreadable(id=archive_id, cause=error) from error


def _compare(
    file: BinaryIO,
    path: Path,
    archive_id: str,
    told: Callable[[int], None],
    give: Callable[[bytes | memoryview], object] | None,
    *,
    devices: bool,
) -> Verified:
    held = appendix.found(file)
    if held is None:
        return Verified(archive_id, 0, 0, ("its manifest is damaged",))
    comparison = Comparison(held.lines())
    try:
        whole = read(file, held.begin, comparison.take, told=told, devices=devices, give=give)
    except UNREADABLE as error:
        return Verified(archive_id, 0, 0, (f"it cannot be read to its end: {describe(error)}",))
    comparison.end(whole.total)
    faults = [*comparison.faults]
    whole.hashing.go_on(held.size - held.begin)
    sha256 = whole.hashing.sha256
    try:
        beside = manifest.in_short(comparison.about, whole.total, sha256=sha256, stored_bytes=held.size)
        if _as_kept(path) != beside:
            faults.append("what lies beside it says something else")
    except FileNotFoundError:
        faults.append("what lies beside it is gone")
    except (ValueError, KeyError, TypeError):
        faults.append("its manifest makes no sense")
    return Verified(archive_id, whole.count, whole.tar_bytes, tuple(faults))


def tar_bytes(path: Path) -> int | None:
    """Return how much there is to read, as what lies beside an archive says; None where that is not known."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads(_as_kept(path))["bytes"])
    return None


def _as_kept(path: Path) -> bytes:
    return files.short_of(path).read_bytes()


def contents(path: Path, archive_id: str) -> Contents:
    """Return what the manifest at an archive's end says; raises `Unreadable`."""
    with _opened(path, archive_id) as file, _making_sense(archive_id):
        return manifest.contents(_lines(file))


def chosen(path: Path, archive_id: str, globs: Sequence[str]) -> Sequence[str]:
    """Return the members that globs stand for, none that is in another; raises `Unreadable`."""
    fitting: dict[str, None] = {}
    inmost = "/"
    with _opened(path, archive_id) as file, _making_sense(archive_id):
        lines = _lines(file)
        next(lines, b"")
        for one in manifest.members(lines):
            name = one.name.rstrip("/")
            if not name.startswith(inmost) and patterns.chosen(name, globs):
                fitting[name] = None
                inmost = f"{name}/"
    return [one for one in fitting if fitting.keys().isdisjoint(members.above(one))]


@contextmanager
def _making_sense(archive_id: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise Unreadable(id=archive_id, cause=error) from error


def _lines(file: BinaryIO) -> Iterator[bytes]:
    held = appendix.found(file)
    if held is None:
        raise ValueError("its manifest is damaged")
    return held.lines()


def short(path: Path) -> dict[str, Any]:
    """Return what is known of an archive, from beside it, or where that is lost from its own end."""
    with suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads(_as_kept(path))
        return found
    with path.open("rb") as file:
        first, last = manifest.ends(_lines(file))
        size = os.fstat(file.fileno()).st_size
        total = Hashing(file, size)
        total.rest()
    short: dict[str, Any] = json.loads(manifest.in_short(first, last, sha256=total.sha256, stored_bytes=size))
    return short


@asynccontextmanager
async def dump(path: Path, archive_id: str, member: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """Give what the members `MEMBER/NNNN` hold, in order."""
    pieces = _pieces(path, f"{member}/")

    async def given() -> AsyncIterator[bytes]:
        try:
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                yield piece
        except (*UNREADABLE, OSError) as error:
            raise Unreadable(id=archive_id, cause=error) from error

    try:
        yield given()
    finally:
        await asyncio.to_thread(pieces.close)


def _pieces(path: Path, prefix: str) -> Generator[bytes, None, None]:
    has_begun = False
    with path.open("rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_size=CHUNK)
        stream = tar.Reader(reader.read)
        for entry in stream.entries():
            if not entry.name.startswith(prefix):
                if has_begun:
                    return
                continue
            has_begun, left = True, entry.stored
            for piece in stream.content():
                yield bytes(piece[:left])
                left -= min(left, len(piece))
