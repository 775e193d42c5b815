"""The engine itself: `point.Engine` with files of a directory."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import BinaryIO

from homelab_agent.backup import pipes
from homelab_agent.backup.archive import appendix, files, gnu_tar, manifest, reading, tar
from homelab_agent.backup.archive.appendix import Appendix
from homelab_agent.backup.archive.errors import (
    Changed,
    CopyFailed,
    Hostile,
    NoRoom,
    NoSuchArchive,
    NotAsWritten,
    NothingFits,
    NotUnpacked,
)
from homelab_agent.backup.archive.members import Leaves
from homelab_agent.backup.archive.progress import Progress, beside
from homelab_agent.backup.archive.stream import Pipe, Sink
from homelab_agent.backup.point import Archive, Contents, Copied, Point, Said, Verified
from homelab_agent.backup.settings import ARCHIVE
from homelab_agent.core import process, statefile

PIECE_BYTES = 32 * 1024 * 1024
"""A dump is cut into members of this size, so that its length need not be known before."""

_SPARE = 1.05
_CHANGED_CODE = 1


@dataclass(frozen=True, slots=True)
class _Begun:
    """A copy that is written and does not count yet; `file` holds the lock."""

    path: Path
    file: BinaryIO
    sha256: str
    tar_bytes: int


class ArchiveEngine:
    """Keeps archives in a directory, a folder for each set."""

    name = ARCHIVE

    def __init__(self, directory: Path, *, level: int = 1) -> None:
        self._directory = directory
        self._level = level
        self._begun: dict[str, _Begun] = {}

    async def room(self, set_name: str, bytes_: int) -> None:
        """Raise `NoRoom` where so many bytes will not fit, as the set's last archive was packed."""
        before = await self.list(set_name)
        packed = before[-1].stored_bytes / max(before[-1].bytes, 1) if before else 1.0
        needed = int(bytes_ * min(packed, 1.0) * _SPARE)
        free = await asyncio.to_thread(self._free)
        if free < needed:
            raise NoRoom(set_name=set_name, directory=self._directory, free=free, needed=needed)

    async def copy(self, point: Point, say: Said) -> Copied:
        """Read everything and have it on disk."""
        began = asyncio.get_running_loop().time()
        progress = Progress(say, None, "copied")
        with self._failing(point.set_name):
            path, file = await progress.run(files.begin, self._directory, point.set_name, point.at)
        try:
            sink = Sink(file, self._level, progress)
            with self._failing(point.set_name):
                await progress.run(_head, sink, point)
                await _dumps(point, sink, progress)
                await self._sources(point, sink, progress)
                sha256 = await progress.run(sink.close)
        except BaseException:
            file.close()
            with suppress(OSError):
                await asyncio.to_thread(path.unlink)
            raise
        partial = f"{point.set_name}/{path.name}"
        self._begun[partial] = _Begun(path, file, sha256, sink.taken)
        return Copied(partial, sink.taken, asyncio.get_running_loop().time() - began)

    async def finish(self, copied: Copied, point: Point, say: Said) -> Archive:
        """Read the copy back, hash each file, and make it count."""
        begun = self._begun.pop(copied.partial)
        try:
            progress = Progress(say, begun.tar_bytes, "read back")
            with self._failing(point.set_name):
                archive = await progress.run(_finish, begun, point, progress)
        except BaseException:
            with suppress(OSError):
                await asyncio.to_thread(begun.path.unlink)
            raise
        finally:
            begun.file.close()
        return archive

    async def discard(self, copied: Copied) -> None:
        """Take away what does not count."""
        if (begun := self._begun.pop(copied.partial, None)) is not None:
            begun.file.close()
            await asyncio.to_thread(begun.path.unlink, missing_ok=True)

    async def list(self, set_name: str = "") -> Sequence[Archive]:
        """Return what is there, oldest first; what makes no sense is not among them."""
        return await asyncio.to_thread(self._list, set_name)

    async def verify(self, archive_id: str, say: Said) -> Verified:
        """Read one whole and hold it against its manifest."""
        path = await asyncio.to_thread(self._path, archive_id)
        progress = Progress(say, await asyncio.to_thread(reading.tar_bytes, path), "read")
        return await progress.run(reading.verify, path, archive_id, progress)

    async def contents(self, archive_id: str) -> Contents:
        """Return what its manifest says."""
        path = await asyncio.to_thread(self._path, archive_id)
        return await asyncio.to_thread(reading.contents, path, archive_id)

    async def restore(
        self, archive_id: str, into: Path, globs: Sequence[str], say: Said, *, devices: bool = False
    ) -> Verified:
        """Unpack below `into`, hashing in the same pass; only an archive of ours may hold `devices`."""
        path = await asyncio.to_thread(self._path, archive_id)
        only = await asyncio.to_thread(reading.chosen, path, archive_id, globs) if globs else None
        if only == []:
            raise NothingFits(id=archive_id, globs=", ".join(globs))
        progress = Progress(say, await asyncio.to_thread(reading.tar_bytes, path), "restored")
        names = process.readable(b"".join(os.fsencode(one) + b"\0" for one in only or ()))

        def unpacker(source: int) -> Awaitable[process.Child]:
            command = gnu_tar.reading(source, into, only=None if only is None else names)
            return process.start(command, env=gnu_tar.ENVIRONMENT, descriptors=(source, names))

        try:
            ours, child = await pipes.begun(unpacker, reads=True)
        finally:
            os.close(names)
        pipe = Pipe(ours)
        unpacking = progress.run(reading.unpack, path, archive_id, progress, pipe, devices=devices)
        try:
            verified, done = await beside(child, unpacking)
        except Leaves as error:
            raise Hostile(id=archive_id, member=str(error)) from None
        if (done.code != 0 or pipe.broken) and verified.good:
            raise NotUnpacked(id=archive_id, into=into, cause=_said(done))
        return verified

    async def dump(self, archive_id: str, member: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give a dump piece by piece."""
        return reading.dump(await asyncio.to_thread(self._path, archive_id), archive_id, member)

    async def forget(self, archive_id: str) -> None:
        """Delete one."""
        path = await asyncio.to_thread(self._path, archive_id)
        await asyncio.to_thread(_forget, path)

    async def sweep(self) -> Sequence[str]:
        """Take away what killed runs have left."""
        return await asyncio.to_thread(self._sweep)

    async def _sources(self, point: Point, sink: Sink, progress: Progress) -> None:
        if not point.sources:
            await progress.run(sink.write, bytes(2 * tar.BLOCK))
            return
        names = await progress.run(lambda: b"".join(gnu_tar.left_out(point.sources)))
        leaving_out = process.readable(names) if names else None

        def packer(sink: int) -> Awaitable[process.Child]:
            given = (sink,) if leaving_out is None else (sink, leaving_out)
            command = gnu_tar.writing(point.sources, sink, leaving_out)
            return process.start(command, env=gnu_tar.ENVIRONMENT, descriptors=given)

        try:
            ours, child = await pipes.begun(packer, reads=False)
        finally:
            if leaving_out is not None:
                os.close(leaving_out)
        _, done = await beside(child, progress.run(sink.drain, ours))
        if done.code == _CHANGED_CODE:
            raise Changed(set_name=point.set_name, cause=_said(done))
        if done.code != 0:
            raise CopyFailed(set_name=point.set_name, directory=self._directory, cause=_said(done))

    def _list(self, set_name: str) -> Sequence[Archive]:
        found = []
        for path in files.finished(self._directory, set_name):
            with suppress(OSError, ValueError, KeyError, TypeError):
                short = reading.short(path)
                found.append(manifest.archive(f"{path.parent.name}/{path.name.removesuffix(files.ENDING)}", short))
        return sorted(found, key=lambda one: (one.at, len(one.id), one.id))

    def _sweep(self) -> Sequence[str]:
        return [str(path) for path in files.sweep(self._directory)]

    def _free(self) -> int:
        place = self._directory
        while not place.exists():
            place = place.parent
        return shutil.disk_usage(place).free

    def _path(self, archive_id: str) -> Path:
        set_name, _, stem = archive_id.partition("/")
        path = self._directory / set_name / f"{stem}{files.ENDING}"
        if not stem or "/" in stem or set_name in {"", ".", ".."} or not path.is_file():
            raise NoSuchArchive(id=archive_id, directory=self._directory)
        return path

    @contextmanager
    def _failing(self, set_name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CopyFailed(set_name=set_name, directory=self._directory, cause=error) from error


async def _dumps(point: Point, sink: Sink, progress: Progress) -> None:
    for dump in point.dumps:
        number, waiting = 0, bytearray()
        async with dump.opened() as pieces:
            async for piece in pieces:
                waiting += piece
                while len(waiting) >= PIECE_BYTES:
                    await progress.run(sink.member, f"{dump.member}/{number:04}", bytes(waiting[:PIECE_BYTES]))
                    del waiting[:PIECE_BYTES]
                    number += 1
        await progress.run(sink.member, f"{dump.member}/{number:04}", bytes(waiting))


def _finish(begun: _Begun, point: Point, told: Callable[[int], None]) -> Archive:
    """Have a copy count that reads back as it was written; what is in it goes behind it meanwhile, a line a member."""
    size = os.fstat(begun.file.fileno()).st_size
    about = manifest.about(point)
    lines = Appendix(begun.file, size)
    lines.add(about)
    _from_disk(begun.file, 0)
    try:
        whole = reading.read(begun.file, size, lambda member: lines.add(manifest.line(member)), told=told, devices=True)
    except (*reading.UNREADABLE, Leaves) as error:
        raise NotAsWritten(set_name=point.set_name, cause=error) from error
    if (whole.sha256, whole.tar_bytes) != (begun.sha256, begun.tar_bytes):
        raise NotAsWritten(set_name=point.set_name, cause="its hash is another")
    lines.add(whole.total)
    length = lines.close()
    _from_disk(begun.file, size)
    whole.hashing.go_on(length)
    _from_disk(begun.file, size)
    if not lines.is_what_is_read(appendix.found(begun.file)):
        raise NotAsWritten(set_name=point.set_name, cause="its manifest is another")
    short = manifest.in_short(about, whole.total, sha256=whole.hashing.sha256, stored_bytes=size + length)
    final = files.publish(begun.path, short)
    return manifest.archive(f"{point.set_name}/{final.name.removesuffix(files.ENDING)}", json.loads(short))


def _from_disk(file: BinaryIO, place: int) -> None:
    """Have what follows be read from the disk, not from memory."""
    os.posix_fadvise(file.fileno(), place, 0, os.POSIX_FADV_DONTNEED)
    file.seek(place)


def _head(sink: Sink, point: Point) -> None:
    sink.member("about.json", manifest.about(point))
    script = resources.files("homelab_agent.backup.archive").joinpath("restore.sh").read_bytes()
    sink.member("restore.sh", script, 0o700)


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)
    files.short_of(path).unlink(missing_ok=True)
    statefile.sync_directory(path.parent)


def _said(done: process.Completed) -> str:
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    telling = [line for line in lines if "Exiting with failure" not in line]
    return "; ".join(telling[:3])[:500] or f"exit code {done.code}"
