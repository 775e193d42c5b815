"""What comes back from a repository: hashes of every byte, the manifest, a dump. Never from the cache on our own disk.

`restic dump` decrypts each blob and holds it against the hash that is its name; its tar stream is hashed file by file,
and thrown away.
"""

from __future__ import annotations

import asyncio
import os
import tarfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from homelab_agent.backup import patterns, pipes
from homelab_agent.backup.packed import Packed
from homelab_agent.backup.point import Content, Said
from homelab_agent.backup.restic import errors, manifest, snapshots
from homelab_agent.backup.restic.manifest import Manifest, Root
from homelab_agent.backup.restic.program import Restic

_PIECE_BYTES = 1024 * 1024


class Reading:
    """Reads one repository."""

    def __init__(self, restic: Restic) -> None:
        self._restic = restic

    async def manifest(self, about_id: str) -> Manifest:
        """Return an archive's manifest; raises `NotAsWritten`, a `ResticFailed`."""
        try:
            return await self._restic.read(_manifest, *_dump(about_id, f"/{snapshots.ABOUT}"))
        except ValueError as error:
            raise errors.NotAsWritten(repository=self._restic.access.name, cause=error) from error

    async def hashes(
        self, snapshot: str, folder: str, roots: Sequence[Root], say: Said, *, total: int | None = None, done: int = 0
    ) -> Packed:
        """Return what `folder` of a snapshot holds, by member; `done` of `total` bytes were read before."""
        tell = manifest.counted(partial(_said, say, done), total, "reading back", asyncio.get_running_loop())
        try:
            return await self._restic.read(
                partial(manifest.hash_tar, roots=roots, said=tell), *_dump(snapshot, folder, "-a", "tar")
            )
        except tarfile.TarError as error:
            raise errors.NotAsWritten(repository=self._restic.access.name, cause=error) from error

    async def changed(
        self, snapshot: str, roots: Sequence[Root], before: Manifest | None, say: Said, *, total: int
    ) -> Packed:
        """Return what a snapshot of `total` bytes holds; what is as it was before is not read again."""
        former = {root.member: root for root in before.roots} if before else {}
        same = [root for root in roots if root.member in former and former[root.member].path == root.path]
        if before is None or len(same) < len(roots) or len({former[root.member].snapshot for root in roots}) != 1:
            return await self.hashes(snapshot, "/", roots, say, total=total)
        try:
            lines = await self._restic.objects("diff", former[roots[0].member].snapshot, snapshot)
        except errors.ResticFailed:  # the one before is gone, or is not what it was
            return await self.hashes(snapshot, "/", roots, say, total=total)
        changes = [(line["modifier"], line["path"]) for line in lines if line.get("message_type") == "change"]
        again = patterns.places(changes)
        gone = frozenset(name.rstrip("/") for letter, name in changes if letter == "-")
        files = Packed(_carried(before.files, roots, again, gone))
        for folder in sorted(again.folders):
            files.update(await self.hashes(snapshot, folder, roots, say))
        for name in sorted(again.files):
            file = await self._restic.read(_hash, *_dump(snapshot, name))
            files.add(manifest.member_of(name.lstrip("/"), roots), file)
        return files

    @asynccontextmanager
    async def dump(self, snapshot: str, member: str, written: Content) -> AsyncIterator[AsyncIterator[bytes]]:
        """Give a dump piece by piece; raises `NotAsWritten` at the end where it is another one."""
        async with self._restic.output(*_dump(snapshot, f"/{member}")) as source:
            hashing = manifest.Hashing()
            try:
                yield hashing.passing(pipes.pieces_of(source))
            finally:
                os.close(source)
        if hashing.ended and hashing.file != written:
            raise errors.NotAsWritten(repository=self._restic.access.name, cause=member)


def _dump(snapshot: str, path: str, *words: str) -> list[str]:
    return ["dump", "--no-cache", *words, "--", snapshot, path]


def _carried(
    files: Mapping[str, Content], roots: Sequence[Root], again: patterns.Places, gone: frozenset[str]
) -> Iterator[tuple[str, Content]]:
    """Yield what of the archive before is in this one as it was."""
    for member, file in files.items():
        root = next((one for one in roots if member == one.member or member.startswith(f"{one.member}/")), None)
        if root is not None:
            path = str(root.path) + member[len(root.member) :]
            if path not in gone and not again.hold(path):
                yield member, file


def _said(say: Said, before: int, done: int, total: int | None, what: str) -> None:
    say(before + done, total, what)


def _hash(source: int) -> Content:
    return manifest.hash_stream(os.fdopen(source, "rb", buffering=0))


def _manifest(source: int) -> Manifest:
    with os.fdopen(source, "rb") as stream:
        try:
            return Manifest.read(stream)
        finally:
            while stream.read(_PIECE_BYTES):
                pass  # it is to end by itself
