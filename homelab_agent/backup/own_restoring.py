"""The agent's own set comes back in place: its state and its database, made ready beside what is there, and exchanged.

No agent may run meanwhile. The configuration is not put back: without one nobody would have come here. What the root
half trusted is added to what it trusts now.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from homelab_agent.backup import healing, joined, own, pipes, restoring, swap, unpacking, users
from homelab_agent.backup.aim import Aim, Wish, check_trust, chosen
from homelab_agent.backup.comparison import Change
from homelab_agent.backup.layout import Place
from homelab_agent.backup.point import Engine, Said, nobody
from homelab_agent.backup.reserved import STAGING, UNDO
from homelab_agent.backup.restore import Plan, Restored
from homelab_agent.backup.restore_errors import AgentRuns, InUse, NoStateYet, NotAsItWas, NotUnpacked, OnlyBeside
from homelab_agent.backup.settings import AGENT_SET, BackupSettings
from homelab_agent.backup.trust import Trust, TrustNotAdopted
from homelab_agent.backup.undo import Undos
from homelab_agent.backup.undo_note import Undo
from homelab_agent.backup.unpacking import Unpacking
from homelab_agent.core import lock, process, waiting
from homelab_agent.core.secret import Secrets
from homelab_agent.core.uuid7 import uuid7
from homelab_agent.core.whereabouts import Whereabouts

_STATE = ("state.db", "state.db-wal", "state.db-shm")
"""SQLite's log means something only with its own database."""
_DATABASE = "postgres"
_MODE = 0o640
_SETTLE_SECONDS = 300.0


class OwnRestoring:
    """Restores the agent's own set of one engine, as `restore.Restoring` does others."""

    def __init__(self, engine: Engine, records: Path, where: Whereabouts) -> None:
        self._engine = engine
        self._records = records
        self._undos = Undos(records)
        self._where = where

    async def plan(self, wish: Wish) -> Plan:
        """Return what `restore` would change; nothing is touched."""
        aim = await self._aim(wish)
        changes = [await asyncio.to_thread(_change, path) for path in self._places(aim)]
        return Plan(aim.archive, changes, stops=(), makes=(), loads=(), notes=self._notes(aim))

    async def restore(self, wish: Wish, say: Said = nobody) -> Restored:
        """Have the agent begin with what the copy has, when it is started again."""
        async with self._alone():
            aim = await self._aim(wish)
            is_ours = await check_trust(self._records, aim.archive, wish.trust)
            places = self._places(aim)
            await asyncio.to_thread(_refuse_users, places)
            id_ = uuid7()
            beside, staging = self._where.directory / f"{UNDO}{id_}", self._records / f"{STAGING}{id_}"
            undo = Undo(id_, AGENT_SET, aim.archive.id, datetime.now(UTC), "unpacking", places=places)
            undo = await asyncio.to_thread(self._undos.note, replace(undo, staging=[staging, beside]))
            try:
                await Unpacking(self._engine, aim, say, devices=is_ours).into(staging, ())
                await self._make_ready(staging, beside, aim)
                trusted = await asyncio.to_thread(_trusted, staging, aim)
                await asyncio.to_thread(unpacking.remove, staging)
                await self._make_still(places)
                moves = await asyncio.to_thread(self._moves, places, beside)
                await self._turn(replace(undo, staging=[beside], moves=moves))
            except BaseException:
                await waiting.to_the_end(asyncio.to_thread(self._undos.abandon, undo.id))
                raise
            notes = [*await self._adopt(trusted), *self._notes(aim)]
        return Restored(undo.id, aim.archive.id, places, notes=notes)

    async def undo(self, undo_id: str) -> Restored:
        """Put back what a restore has replaced; whatever stands there now is kept in its turn."""
        async with self._alone():
            undo = await asyncio.to_thread(self._undos.find, undo_id)
            await self._make_still(undo.places)
            await self._turn(undo)
        return Restored(undo.id, undo.archive, undo.places)

    async def _aim(self, wish: Wish) -> Aim:
        if wish.globs:
            raise OnlyBeside(set_name=AGENT_SET)
        archive = await chosen(self._engine, wish)
        return Aim(archive, await self._engine.contents(archive.id), (), None)

    def _places(self, aim: Aim) -> Sequence[Path]:
        """Return what would be replaced: the database only where it is the agent's own."""
        has = {own.STATE: _STATE[0], **({own.DATABASE: _DATABASE} if self._where.has_embedded else {})}
        found = [self._where.directory / name for member, name in has.items() if member in aim.contents.dumps]
        if not found:
            raise NotAsItWas(id=aim.archive.id, cause="neither the agent's state nor its database is in it")
        return found

    def _moves(self, places: Sequence[Path], beside: Path) -> Sequence[swap.Move]:
        directory, names = self._where.directory, [place.name for place in places]
        names = [name for one in names for name in (_STATE if one == _STATE[0] else (one,))]
        folder = swap.inode(directory)
        return [swap.planned(directory / name, beside / name, folder=folder) for name in names]

    async def _make_ready(self, staging: Path, beside: Path, aim: Aim) -> None:
        """Have state.db and a database of the agent's user in `beside`."""
        dumped = {dump: [staging / name for name in joined.members(aim.contents, dump)] for dump in aim.contents.dumps}
        try:
            await asyncio.to_thread(_begin, beside, dumped.get(own.STATE, ()))
        except OSError as error:
            raise NotUnpacked(directory=beside.parent, cause=error) from error
        if own.DATABASE in dumped and self._where.has_embedded:
            await self._load(dumped[own.DATABASE], beside)
        await asyncio.to_thread(swap.write_out, beside)

    async def _load(self, dump: Sequence[Path], beside: Path) -> None:
        words = ("db", "load", "--new", str(beside))
        sink, child = await pipes.begun(
            lambda source: own.begun(self._where, words, source, pipes.FROM_DESCRIPTOR), reads=True
        )
        with os.fdopen(sink, "wb", buffering=0) as pipe:
            try:
                await pipes.pour(joined.read(dump), sink)
                pipe.close()
                done = await child.wait()
            except BaseException:
                await child.stop()
                raise
        if done.code:
            raise own.CommandFailed.of(words, done)

    async def _make_still(self, places: Sequence[Path]) -> None:
        """See that nobody uses what is there, and that state.db is one file; a damaged one keeps its log beside it."""
        await asyncio.to_thread(_refuse_users, places)
        words = [*self._where.command, "state", "settle"]
        await process.run(words, deadline=_SETTLE_SECONDS, **await own.as_agent(self._where))

    async def _adopt(self, trusted: str) -> Sequence[str]:
        """Trust what the copy's host did; return in words what went wrong: the state is restored all the same."""
        try:
            await asyncio.to_thread(Trust(self._records).adopt, trusted)
        except TrustNotAdopted as error:
            return [f"{error}; {error.repair}"]
        return []

    async def _turn(self, undo: Undo) -> None:
        await waiting.to_the_end(asyncio.to_thread(self._undos.turn, undo, undo.other))

    def _notes(self, aim: Aim) -> Sequence[str]:
        notes = ["its configuration was not put back; it is in the copy: restore homelab-agent --to DIRECTORY"]
        if own.DATABASE in aim.contents.dumps and not self._where.has_embedded:
            notes.append(
                "its database is elsewhere ([database] url): homelab-agent db load < homelab.pgdump of the copy"
            )
        return [*notes, "to have it begin with that: systemctl start homelab-agent"]

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Let no agent and no other restore run meanwhile, and first end what a killed restore has begun."""
        with ExitStack() as held:
            await asyncio.to_thread(held.enter_context, _stopped(self._where.directory))
            async with self._undos.at_work() as healed:
                healing.refuse_half(healed, AGENT_SET)
                yield


@asynccontextmanager
async def replacing(
    settings: BackupSettings, where: Whereabouts, engine: str, secrets: Secrets
) -> AsyncIterator[OwnRestoring]:
    """Give what restores the agent's own set in place."""
    yield OwnRestoring(await restoring.opened(settings, engine, secrets), settings.records, where)


@contextmanager
def _stopped(directory: Path) -> Iterator[None]:
    """Let no agent start there; raises `AgentRuns`, `NoStateYet`."""
    if not directory.is_dir():
        raise NoStateYet(directory=directory)
    try:
        with lock.kept_free(directory):
            yield
    except lock.StateDirectoryBusy as error:
        raise AgentRuns(directory=directory, holder=error.fields["holder"]) from error


def _refuse_users(places: Sequence[Path]) -> None:
    """Raise `InUse` for a database that outlived its agent, and for whoever else works there."""
    if using := users.processes(places):
        repair = "systemctl start homelab-agent; systemctl stop homelab-agent.socket, which ends its database in order"
        raise InUse(places=", ".join(map(str, places)), names=", ".join(using[:5]), repair=repair)


def _change(path: Path) -> Change:
    try:
        status = path.stat()
    except FileNotFoundError:
        return Change(Place(path), [""], [], [], 0, 0, None)
    size = sum(one.stat().st_size for one in path.rglob("*") if one.is_file()) if path.is_dir() else status.st_size
    return Change(Place(path), [], [], [""], 0, size, datetime.fromtimestamp(status.st_mtime, UTC))


def _trusted(staging: Path, aim: Aim) -> str:
    """Return the lines of what the root half trusted when the copy was made."""
    member = str(aim.contents.about.get(own.TRUST, ""))
    return (staging / member).read_text(errors="replace") if member in aim.contents.sources else ""


def _begin(beside: Path, dump: Sequence[Path]) -> None:
    """Make a directory of who has the one above it, with a state.db of a dump in it.

    It is reached by its descriptor: who has the one above it could put a link in its place meanwhile.
    """
    status = beside.parent.stat()
    beside.mkdir(0o700)
    directory = os.open(beside, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if dump:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(_STATE[0], flags, _MODE, dir_fd=directory), "wb") as file:
                joined.copy(dump, file)
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
        os.fchown(directory, status.st_uid, status.st_gid)
    finally:
        os.close(directory)
