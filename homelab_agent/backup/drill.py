"""A drill: a copy is restored beside what lives, and what lived on it is started there to see whether it does again.

Everything it makes is in one directory and in containers of the same name, and is gone afterwards (`drill_place.py`).
Containers are started one after the other, each alone: what needs another is said to be open, not to be well.
"""

from __future__ import annotations

import asyncio
import glob
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from homelab_agent.backup import drill_databases, drill_kinds, drill_place, drill_trial, drilled, sqlite_files
from homelab_agent.backup.aim import check_trust
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.drill_dumps import Dumps
from homelab_agent.backup.drill_errors import CopyGone, NoPlaceToDrill, NoRoomToDrill, NotOursToStart
from homelab_agent.backup.drill_kinds import PATIENCE, Patience
from homelab_agent.backup.drill_trial import Copy, Part, Stage
from homelab_agent.backup.drilled import COPY, Drilled, Shown
from homelab_agent.backup.dumps import Told
from homelab_agent.backup.point import Archive, Contents, Engine, Said
from homelab_agent.backup.restore_errors import NotOurs
from homelab_agent.backup.settings import BackupSettings
from homelab_agent.core.errors import AgentError, describe

_WHY_NOT = "which did not run, or keep nothing in it"
_SPARE = 1.05
_LEFT_BYTES = 256 * 1024 * 1024
"""What stays free beside a copy: the disk is that of others, too."""
_LOADED = 2.0
"""A database may take so many times what its dump does: indexes, and what is written ahead."""


class Drilling:
    """Drills copies of one engine; raises an AgentError where a copy was not drilled at all."""

    def __init__(
        self, engine: Engine, docker: Docker, settings: BackupSettings, *, say: Said, patience: Patience = PATIENCE
    ) -> None:
        self._engine = engine
        self._docker = docker
        self._settings = settings
        self._say = say
        self._patience = patience

    async def drill(self, archive_id: str) -> Drilled:
        """Drill one, and return what was seen; nothing of it is left."""
        began = time.monotonic()
        archive, devices = await self._ours(archive_id)
        contents = await self._engine.contents(archive.id)
        async with drill_place.place(self._settings.drill_place, self._docker) as place:
            await asyncio.to_thread(_check_room, place, archive.id, contents)
            copy = Copy(archive.set_name, place / "copy", place / "empty", contents.sources)
            try:
                restored = await self._restored(archive, contents, copy, devices=devices)
                shown = [restored] if restored.state == "bad" else await self._look(archive, contents, copy, restored)
            except OSError as error:
                raise NoPlaceToDrill(directory=place, cause=error) from error
        return Drilled(archive.id, shown, time.monotonic() - began)

    async def _ours(self, archive_id: str) -> tuple[Archive, bool]:
        """Return the copy, and whether its device nodes are ours; it says which images are started: not anybody may."""
        found = next((one for one in await self._engine.list() if one.id == archive_id), None)
        if found is None:
            raise CopyGone(id=archive_id, engine=self._engine.name)
        try:
            return found, await check_trust(self._settings.records, found, "")
        except NotOurs:
            raise NotOursToStart(id=found.id, sha256=found.sha256) from None

    async def _look(self, archive: Archive, contents: Contents, copy: Copy, restored: Shown) -> Sequence[Shown]:
        told = {**contents.about.get("containers", {}), **contents.about.get("dumping", {})}
        given = self._dumps(archive, contents.about.get("dumps", {}), told)
        parts = [Part.of(name, told.get(name, {})) for name in sorted(given)]
        kept = [one for one in parts if given[one.name].kind or any(copy.has(place) for place in one.mounts.values())]
        unknown = [one for one in kept if one.name not in told]
        wanted = [one for one in kept if one.ran and one not in unknown]
        if left := [one.name for one in parts if one not in (*wanted, *unknown)]:
            restored = replace(restored, said=f"{restored.said}; not started: {', '.join(left)}, {_WHY_NOT}")
        for part in parts:
            await given[part.name].put_files(part, copy)
        shown = [restored, *await self._sqlite(copy), *(_not_loaded(one.name, copy) for one in unknown)]
        stage = Stage(self._docker, copy, self._settings.drill_memory * 1024 * 1024)
        for number, part in enumerate(wanted):
            self._say(number, len(wanted), f"{part.name} is started")
            others = [one.name for one in parts if one != part]
            shown.append(await self._started(stage, part, number, given[part.name], others))
        return shown

    def _dumps(self, archive: Archive, dumped: Mapping[str, Told], parts: Collection[str]) -> Mapping[str, Dumps]:
        """Return the dumps of each container, by its name; also of one that the copy does not tell of."""
        opened = partial(self._engine.dump, archive.id)
        names = {*parts, *(str(one["container"]) for one in dumped.values())}
        return {
            name: Dumps({member: one for member, one in dumped.items() if one["container"] == name}, opened)
            for name in names
        }

    async def _restored(self, archive: Archive, contents: Contents, copy: Copy, *, devices: bool) -> Shown:
        """Unpack all that is no dump, every byte of the copy held against its hash."""
        for directory in (copy.top, copy.empty):
            await asyncio.to_thread(directory.mkdir)
        globs = [glob.escape(member) for member in contents.sources] if contents.dumps else ()
        if contents.sources:
            found = await self._engine.restore(archive.id, copy.top, globs, self._say, devices=devices)
        else:
            found = await self._engine.verify(archive.id, self._say)
        if not found.good:
            said = f"it is damaged: {'; '.join(found.faults[:3])}"
            return Shown(COPY, "bad", said, f"homelab-agent backup run {archive.set_name}")
        count = sum(name.startswith(("volumes/", "paths/")) for name in contents.files)
        dumped = f" and {drilled.count(len(contents.dumps), 'dump')}" if contents.dumps else ""
        return Shown(COPY, "good", f"{drilled.count(count, 'file')}{dumped}, as they were written")

    async def _sqlite(self, copy: Copy) -> Sequence[Shown]:
        found = await sqlite_files.check(copy.top, seconds=self._patience.check)
        if found.faults:
            said = f"{len(found.faults)} of {found.count} are not whole: {'; '.join(found.faults[:3])}"
            repair = (
                f"see whether the living ones are (PRAGMA integrity_check); homelab-agent backup run {copy.set_name}"
            )
            return [Shown("SQLite files", "bad", said, repair)]
        return [Shown("SQLite files", "good", f"{found.count}, all whole")] if found.count else []

    async def _started(self, stage: Stage, part: Part, number: int, given: Dumps, others: Sequence[str]) -> Shown:
        try:
            async with drill_trial.started(stage, part, number, dumps=given.kind, first=given.first) as trial:
                if (kind := given.kind_of(trial.container)) is not None:
                    return await drill_databases.database(trial, kind, self._patience, given)
                return await drill_kinds.program(trial, self._patience, others=others, load=given.load)
        except AgentError as error:
            return Shown(part.name, "bad", describe(error), error.repair)


def _not_loaded(name: str, copy: Copy) -> Shown:
    said = "its dump was not loaded: the copy does not tell of its container"
    return Shown(name, "bad", said, f"homelab-agent backup run {copy.set_name}, whose copy does; then drill that")


def _check_room(place: Path, archive_id: str, contents: Contents) -> None:
    dumped = sum(one.size for name, one in contents.files.items() if name.startswith("dumps/"))
    whole = sum(one.size for one in contents.files.values())
    needed = int((whole - dumped + dumped * _LOADED) * _SPARE) + _LEFT_BYTES
    free = shutil.disk_usage(place).free
    if free < needed:
        raise NoRoomToDrill(directory=place.parent, id=archive_id, needed=needed, free=free)
