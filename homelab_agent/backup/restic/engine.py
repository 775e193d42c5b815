"""A restic repository as an engine of backups."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack
from pathlib import Path

from homelab_agent.backup.packed import Packed
from homelab_agent.backup.point import Archive, Contents, Copied, Point, Said, Verified
from homelab_agent.backup.restic import errors, manifest, restoring, snapshots
from homelab_agent.backup.restic.locks import Locks
from homelab_agent.backup.restic.manifest import Manifest
from homelab_agent.backup.restic.memory import Memory
from homelab_agent.backup.restic.program import Access, Restic
from homelab_agent.backup.restic.reading import Reading
from homelab_agent.backup.restic.snapshots import Found
from homelab_agent.backup.restic.storing import Stored, Storing
from homelab_agent.core.clock import Clock
from homelab_agent.core.errors import AgentError
from homelab_agent.core.uuid7 import uuid7

PRUNE = ("prune", "--max-repack-size=1G", "--max-unused=10%")
"""What one prune may do at most: it holds the repository's lock meanwhile."""
_SPARSE_SINCE = (0, 15)
_ID_LENGTH = 64


class KitNotKept(AgentError):
    """Without its password nobody reads the repository {repository}, and without this machine nobody knows it."""

    repair = (
        "Keep on paper, elsewhere, what `homelab-agent backup kit --with-secrets` prints; then: "
        "homelab-agent backup init {repository} --kit-is-kept"
    )


class ResticEngine:
    """Implements `point.Engine`; `records` is the root half's own directory, `host` what snapshots are said to be of.

    A living lock of another is waited for, and `tell` is told of it, in every call but `copy`, which fails at once.
    """

    def __init__(
        self, access: Access, records: Path, *, host: str, clock: Clock, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        directory = records / "restic" / access.name
        self._access = access
        self._tell = tell
        self._host = host
        self._memory = Memory(directory)
        self._restic = Restic(access, directory / "cache")
        self._locks = Locks(self._restic, clock)
        self._reading = Reading(self._restic)
        self._storing = Storing(self._restic, self._reading, host=host)
        self._runs: dict[str, tuple[Stored, ExitStack]] = {}

    @property
    def name(self) -> str:
        """The repository's name."""
        return self._access.name

    async def init(self, *, kit_is_kept: bool) -> None:
        """Make the repository; raises `KitNotKept` until somebody says that a person can do without this machine."""
        if not kit_is_kept:
            raise KitNotKept(repository=self.name)
        await self._restic.ask("init")

    async def room(self, set_name: str, bytes_: int) -> None:
        """Open the repository, wait until nobody holds it, and look for room where that can be known: on a disk.

        What is not new to a repository takes none: beside growth as much is asked for as the last archive took, twice.
        Elsewhere `tell` is told that it is not known.
        """
        await self._locks.clear(self._tell)
        last = next((one for one in reversed(await self.list(set_name)) if one.verdict != "dirty"), None)
        needed = bytes_ if last is None else max(0, bytes_ - last.bytes) + 2 * last.stored_bytes
        if (directory := self._access.directory) is None:
            self._tell(f"whether {self.name} has room for {needed} bytes cannot be known from here")
            return
        free = (await asyncio.to_thread(shutil.disk_usage, directory)).free
        if free < needed:
            raise errors.NoRoom(repository=self.name, free=free, needed=needed)

    async def copy(self, point: Point, say: Said) -> Copied:
        """Make the snapshots of dumps and sources; without a manifest they do not count."""
        began = asyncio.get_running_loop().time()
        stored = Stored(uuid7())
        with ExitStack() as stack:
            if not await self._hold(stack, alone=False):
                raise errors.RepositoryLocked(repository=self.name, cause="what a killed run left is being taken away")
            await self._storing.read(point, stored, say)
            self._runs[stored.run] = stored, stack.pop_all()
        return Copied(stored.run, stored.read_bytes, asyncio.get_running_loop().time() - began)

    async def finish(self, copied: Copied, point: Point, say: Said) -> Archive:
        """Read back what is new, and write the manifest, which makes it count."""
        stored, held = self._runs[copied.partial]
        with held:
            before = await asyncio.to_thread(self._memory.last, point.set_name)
            written, about = await self._storing.make_count(point, stored, before, say)
            if len(about) < _ID_LENGTH:  # 0.14 tells the beginning of an id
                about = next(id_ for id_ in await self._ids() if id_.startswith(about))
            await asyncio.to_thread(self._memory.keep, about, written)
        del self._runs[copied.partial]
        return Archive(
            id=about,
            engine=self.name,
            set_name=point.set_name,
            at=point.at,
            verdict=point.verdict,
            sha256=about,
            bytes=written.total_bytes,
            stored_bytes=stored.stored_bytes,
            files=len(written.files),
            manifest=written.values(),
        )

    async def discard(self, copied: Copied) -> None:
        """Forget its snapshots; what they hold is given back by the next `sweep`."""
        _, held = self._runs.pop(copied.partial)
        with held:
            found = [one for one in await self._found() if one.run == copied.partial]
            await self._forget(found)

    async def list(self, set_name: str = "") -> Sequence[Archive]:
        """Return the archives, whoever made them, the oldest first."""
        found = (snapshots.archive(one, self.name) for one in await self._found(set_name))
        return [one for one in found if one is not None]

    async def verify(self, archive_id: str, say: Said) -> Verified:
        """Decrypt and hash every byte of its files, from the repository itself, and hold them against its manifest.

        That it is the manifest as it was written is what its id says: it hashes all that the snapshot has.
        """
        found = await self._one(archive_id)
        try:
            written = await self._reading.manifest(archive_id)
            files = await self._all_of(written, say)
        except (errors.Damaged, errors.NotAsWritten) as error:
            await asyncio.to_thread(self._memory.forget, archive_id)
            return Verified(archive_id, 0, 0, [str(error)])
        faults = manifest.differences(written.files, files)
        faults += restoring.strangers(written, found)
        await asyncio.to_thread(self._memory.forget if faults else _nothing, archive_id)
        return Verified(archive_id, len(files), sum(one.size for one in files.values()), faults)

    async def contents(self, archive_id: str) -> Contents:
        """Return what its manifest says."""
        await self._one(archive_id)
        written = await self._reading.manifest(archive_id)
        sources = {one.member: one.path for one in written.roots}
        return Contents(sources, list(written.dumps), written.files, written.about)

    async def restore(
        self,
        archive_id: str,
        into: Path,
        globs: Sequence[str],
        say: Said,
        *,
        devices: bool = False,  # noqa: ARG002 - who knows the repository's password may store any
    ) -> Verified:
        """Restore by member, then hash what has come against the manifest."""
        await self._one(archive_id)
        written = await self._reading.manifest(archive_id)
        sparse = await self._restic.version() >= _SPARSE_SINCE
        return await restoring.Restoring(self._restic, written, globs, sparse=sparse).restore(archive_id, into, say)

    async def dump(self, archive_id: str, member: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give a dump; the context raises `NotAsWritten` at the end of one that is another."""
        await self._one(archive_id)
        written = await self._reading.manifest(archive_id)
        if member not in written.dumps:
            raise errors.NoSuchArchive(id=f"{archive_id}, {member}", repository=self.name)
        return self._reading.dump(written.dumps[member], member, written.files[member])

    async def forget(self, archive_id: str) -> None:
        """Forget its snapshots, the manifest first; what they hold is given back by the next `sweep`."""
        await self._forget([await self._one(archive_id)])

    async def sweep(self) -> Sequence[str]:
        """Forget what runs of this host left without a manifest, then prune where something was forgotten."""
        with ExitStack() as stack:
            if not await self._hold(stack, alone=True):
                return []  # a run of this host is under way
            left = [one for one in await self._found() if not one.whole and one.all[0].hostname == self._host]
            await self._forget(left)
        if await asyncio.to_thread(self._memory.is_unpruned):
            await self._locks.clear(self._tell, alone=True)
            await self._restic.ask(*PRUNE, seconds=4 * 3600.0)
            await asyncio.to_thread(self._memory.pruned)
        return [f"{one.all[0].set_name} of {one.all[0].at:%Y-%m-%d %H:%M} UTC, run {one.run}" for one in left]

    async def _hold(self, stack: ExitStack, *, alone: bool) -> bool:
        """Hold the repository while `stack` lasts; return False where another process of this host does."""
        held = await asyncio.to_thread(lambda: self._memory.hold(alone=alone))
        if held is not None:
            stack.callback(os.close, held)
        return held is not None

    async def _found(self, set_name: str = "") -> Sequence[Found]:
        """Return the runs that the repository knows of."""
        tag = snapshots.OURS + (f",set:{set_name}" if set_name else "")
        said = await self._restic.objects("snapshots", "--no-lock", "--tag", tag)
        return snapshots.grouped(one for values in said[0] or [] if (one := snapshots.read(values)) is not None)

    async def _one(self, archive_id: str) -> Found:
        for one in await self._found():
            if one.whole and one.about is not None and one.about.id == archive_id:
                return one
        raise errors.NoSuchArchive(id=archive_id, repository=self.name)

    async def _ids(self) -> Sequence[str]:
        """Return the ids of all snapshots."""
        if (directory := self._access.directory) is not None:
            return await asyncio.to_thread(os.listdir, directory / "snapshots")
        return (await self._restic.ask("list", "snapshots", "--no-lock")).split()

    async def _all_of(self, written: Manifest, say: Said) -> Packed:
        files = Packed()
        for id_, roots in restoring.by_snapshot(written):
            done = sum(one.size for one in files.values())
            files.update(await self._reading.hashes(id_, "/", roots, say, total=written.total_bytes, done=done))
        return files

    async def _forget(self, found: Sequence[Found]) -> None:
        if not found:
            return
        await self._locks.clear(self._tell, alone=True)
        await asyncio.to_thread(self._memory.unpruned)
        abouts = [one.about.id for one in found if one.about is not None]
        others = [other.id for one in found for other in one.others]
        for ids in (abouts, others):
            if ids:
                await self._restic.ask("forget", "--", *ids)


def _nothing(_: str) -> None:
    """Do nothing."""
