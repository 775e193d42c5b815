"""A copy comes back to where it was: unpacked beside what lives, and put in its place only when every hash is right.

Meanwhile whoever has mounted a place is stopped, and noted as for a backup (`freeze.py`); what is replaced is kept for
an undo, and noted, too (`undo.py`). So whatever ends this, the next start has the old files or the new ones, all of
them, and every container runs again. It needs no agent. Without a Docker that answers it replaces what nobody uses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from homelab_agent.backup import aim as aiming
from homelab_agent.backup import bringing, healing, loading, moving, sqlite_place, still
from homelab_agent.backup.aim import Aim, Wish
from homelab_agent.backup.beyond import ThroughDocker
from homelab_agent.backup.bringing import Bringing, Wanted
from homelab_agent.backup.comparison import Change, compare
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.inventory import Inventory
from homelab_agent.backup.point import Archive, Engine, Said, nobody
from homelab_agent.backup.restore_errors import HalfRestored, OutOfReach, StandsStill
from homelab_agent.backup.resume import PATIENCE, NotResumed, Patience, Tell, no_one
from homelab_agent.backup.still import Still
from homelab_agent.backup.swap import Side
from homelab_agent.backup.undo import Undos
from homelab_agent.backup.undo_note import Undo
from homelab_agent.backup.unpacking import Unpacking
from homelab_agent.core import waiting
from homelab_agent.core.uuid7 import uuid7


@dataclass(frozen=True, slots=True)
class Restored:
    """What is there now; `undo` takes it back, `made` are volumes that were gone, `stopped` who was stopped for it."""

    undo: str
    archive: str
    places: Sequence[Path]
    databases: Sequence[str] = ()
    made: Sequence[str] = ()
    stopped: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def where(self) -> Sequence[str]:
        """In words, all that is there."""
        return [*map(str, self.places), *self.databases]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restore would do: what changes at each place, who stands still meanwhile, which volumes it would make."""

    archive: Archive
    changes: Sequence[Change]
    stops: Sequence[str]
    makes: Sequence[str]
    loads: Sequence[str]
    notes: Sequence[str]


class Restoring:
    """Restores sets of one engine; `docker` is None where it does not answer, `records` is the root half's own.

    Everything raises an AgentError with its repair, and leaves things as they were.
    """

    def __init__(
        self,
        engine: Engine,
        docker: Docker | None,
        records: Path,
        *,
        tell: Tell = no_one,
        patience: Patience = PATIENCE,
    ) -> None:
        self._engine = engine
        self._docker = docker
        self._records = records
        through = None if docker is None else ThroughDocker(docker, records, asyncio.get_running_loop())
        self._undos = Undos(records, through)
        self._tell = tell
        self._patience = patience

    async def aim(self, wish: Wish) -> Aim:
        """Return what would come back where; touches nothing."""
        archive = await aiming.chosen(self._engine, wish)
        contents = await self._engine.contents(archive.id)
        inventory = await self._inventory()
        if inventory is not None and inventory.refused:
            raise OutOfReach(why=inventory.refused)
        places = [aiming.place(one, contents, inventory) for one in contents.sources]
        return Aim(archive, contents, places, inventory, wish.globs)

    async def plan(self, wish: Wish) -> Plan:
        """Return what `restore` would change; every file that is there is read, and nothing is touched."""
        aim = await self.aim(wish)
        undo = self._begun(aim, wish)
        what = await bringing.wanted(aim, self._docker, undo.id)
        changes = []
        for place in what.places:
            files = {**aim.files_of([place]), **sqlite_place.contents(what.files, place)}
            changes.append(await asyncio.to_thread(compare, place, files, parts=place in what.parts))
        undo = replace(undo, servers=what.servers)
        paths = [one.path for one in what.places]
        also = loading.users(undo, aim.inventory)
        stops = Still.stopping(aim.inventory, paths, also=also, spare=what.serving)
        gone = await asyncio.to_thread(moving.gone, [one for one in what.places if not one.volume])
        notes = [*_made(gone), *aiming.missing(aim.contents, aim.inventory)]
        makes = [one.name for one in what.makes]
        return Plan(aim.archive, changes, [one.name for one in stops], makes, list(map(str, what.loads)), notes)

    async def restore(self, wish: Wish, say: Said = nobody) -> Restored:
        """Replace what is in the set's places by what the copy has; the set's containers run as before after it."""
        async with self._at_work(wish.set_name) as notes:
            aim = await self.aim(wish)
            is_ours = await aiming.check_trust(self._records, aim.archive, wish.trust)
            _refuse_strangers(aim, aim.inventory)
            undo = self._begun(aim, wish)
            what = await bringing.wanted(aim, self._docker, undo.id)
            work = Unpacking(self._engine, aim, say, devices=is_ours)
            done = await self._restore(aim, what, undo, Bringing(aim, self._docker, self._undos, work, say))
            return replace(done, notes=[*notes, *done.notes])

    async def undo(self, undo_id: str) -> Restored:
        """Put back what a restore has replaced; what stands there now is kept in its turn: undo it again."""
        set_name = await asyncio.to_thread(self._undos.set_of, undo_id)
        async with self._at_work(set_name) as notes:
            undo = await asyncio.to_thread(self._undos.find, undo_id)
            stopped, told = await self._turn(undo, undo.other, await self._inventory())
        return Restored(undo.id, undo.archive, undo.places, undo.databases, stopped=stopped, notes=[*notes, *told])

    async def _restore(self, aim: Aim, what: Wanted, undo: Undo, work: Bringing) -> Restored:
        volumes = [one.name for one in what.makes]
        undo = replace(undo, places=[one.path for one in what.places], volumes=volumes, servers=what.servers)
        await asyncio.to_thread(self._undos.note, undo)
        try:
            undo = await work.bring(what, undo)
            inventory = await self._inventory()  # to bring it has taken minutes, in which others may have started
            _refuse_strangers(aim, inventory)
            stopped, told = await self._turn(undo, "new", inventory)
        except BaseException:
            await waiting.to_the_end(asyncio.to_thread(self._undos.abandon, undo.id))
            raise
        notes = [*told, *_made(undo.folders), *aiming.missing(aim.contents, inventory)]
        return Restored(undo.id, aim.archive.id, undo.places, undo.databases, volumes, stopped, notes)

    @asynccontextmanager
    async def _at_work(self, set_name: str) -> AsyncIterator[Sequence[str]]:
        """Let nobody else restore meanwhile; what was killed is ended first, and whoever it left still runs again.

        Gives in words who does not: that is no reason not to restore another set. Raises `HalfRestored` for this one.
        """
        async with self._undos.at_work() as healed:
            notes = []
            if self._docker is not None:
                try:
                    await healing.resume_left(self._docker, self._records, self._undos, healed)
                except (HalfRestored, NotResumed) as error:
                    notes.append(f"{error}: {error.repair}")
            healing.refuse_half(healed, set_name)
            yield notes

    async def _turn(self, undo: Undo, side: Side, inventory: Inventory | None) -> tuple[Sequence[str], Sequence[str]]:
        """Have that side stand there while nobody uses it; return who was stopped for it, and what to know of them."""
        serving = await loading.serving(self._docker, undo.servers, undo.places)
        also = loading.users(undo, inventory)
        quiet = Still(self._docker, self._records, tell=self._tell, patience=self._patience)
        turned: Undo | None = None
        try:
            async with quiet.keeping(undo, inventory, also=also, spare=serving) as stopped:
                turned = await waiting.to_the_end(asyncio.to_thread(self._undos.turn, undo, side))
        except NotResumed as error:
            if turned is None:
                raise
            raise StandsStill(id=undo.id, names=error.fields["names"], cause=error.cause) from error
        return stopped, quiet.notes

    async def _inventory(self) -> Inventory | None:
        return None if self._docker is None else await self._docker.inventory()

    def _begun(self, aim: Aim, wish: Wish) -> Undo:
        users = [aiming.identity_of(aim.contents, name) for name in aim.contents.about.get("containers", {})]
        return Undo(uuid7(), wish.set_name, aim.archive.id, datetime.now(UTC), "unpacking", users=users)


def _made(folders: Sequence[Path]) -> Sequence[str]:
    return [f"the directory {one} was gone: it is made anew, root's own" for one in folders]


def _refuse_strangers(aim: Aim, inventory: Inventory | None) -> None:
    about, paths = aim.contents.about, [place.path for place in aim.places]
    known = about.get("containers", {})
    still.refuse_strangers(inventory, paths, project=about.get("project", ""), known=known)
