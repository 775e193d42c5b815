"""A copy comes back as a project of another name, into volumes that are made for it: nothing that lives is touched.

Compose takes up volumes by name and labels (com.docker.compose.project, .volume): `docker compose -p NAME up` finds
what is here. What is no volume goes to a directory.
"""

from __future__ import annotations

import asyncio
import glob
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from homelab_agent.backup import aim as aiming
from homelab_agent.backup import beside, beyond, patterns, swap, unpacking
from homelab_agent.backup.aim import Aim, Wish
from homelab_agent.backup.beyond import ThroughDocker
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.inventory import Inventory, Volume
from homelab_agent.backup.layout import Place
from homelab_agent.backup.moving import Group
from homelab_agent.backup.point import Contents, Engine, Said, nobody
from homelab_agent.backup.reserved import STAGING
from homelab_agent.backup.restore_errors import NameTaken, NotUnpacked, NoVolumes, OutOfReach
from homelab_agent.backup.undo import Undos
from homelab_agent.backup.undo_note import Undo
from homelab_agent.backup.unpacking import Unpacking
from homelab_agent.core import compose, waiting
from homelab_agent.core.uuid7 import uuid7

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
"""What Compose takes for a project's name."""
_HASH = "com.docker.compose.config-hash"
"""Compose's label that would have it make the volume anew: it is of the old name."""
_VOLUME = "com.docker.compose.volume"


@dataclass(frozen=True, slots=True)
class Made:
    """What a project was made of: its volumes by the names they had, and the directory of all else, if there is any."""

    archive: str
    project: str
    volumes: Mapping[str, str]
    directory: Path | None
    notes: Sequence[str]


class Making:
    """Makes projects of copies; `records` is the root half's own. All raise an AgentError, and leave nothing then."""

    def __init__(self, engine: Engine, docker: Docker, records: Path, *, say: Said = nobody) -> None:
        self._engine = engine
        self._docker = docker
        self._records = records
        self._undos = Undos(records, ThroughDocker(docker, records, asyncio.get_running_loop()))
        self._say = say

    async def make(self, wish: Wish, name: str, directory: Path) -> Made:
        """Make volumes for the project `name`, and `directory` of what is no volume."""
        async with self._undos.at_work():
            archive = await aiming.chosen(self._engine, wish)
            contents = await self._engine.contents(archive.id)
            inventory = await self._docker.inventory()
            if inventory.refused:
                raise OutOfReach(why=inventory.refused)
            devices = await aiming.check_trust(self._records, archive, wish.trust)
            volumes = renamed(contents, inventory, name)
            places = [Place(one.path, old) for old, one in volumes.items()]
            aim = Aim(archive, contents, places, inventory, wish.globs)
            work = Unpacking(self._engine, aim, self._say, devices=devices)
            undo = Undo(uuid7(), wish.set_name, archive.id, datetime.now(UTC), "unpacking")
            return await self._make(aim, volumes, name, directory, undo, work)

    async def _make(
        self, aim: Aim, volumes: Mapping[str, Volume], name: str, directory: Path, undo: Undo, work: Unpacking
    ) -> Made:
        asked = [one for one in aim.places if not aim.globs or aim.files_of([one])]
        if not asked:
            raise NoVolumes(id=aim.archive.id)
        others = _others(aim)
        if others:
            await asyncio.to_thread(beside.check, directory)
        made = {one.volume: volumes[one.volume] for one in asked}
        group = Group({one: one.path for one in asked}, asked[0].path.parent / f"{STAGING}{undo.id}")
        undo = replace(undo, volumes=[one.name for one in made.values()], staging=[group.staging])
        await asyncio.to_thread(self._undos.note, undo)
        try:
            await waiting.to_the_end(beyond.make(self._docker, list(made.values()), undo.id))
            await asyncio.to_thread(unpacking.check_room, aim, [group])
            await work.beside(group)
            await asyncio.to_thread(_fill, group)
            if others:
                await self._fill_directory(aim, others, directory, undo, work)
            await asyncio.to_thread(self._undos.forget, undo)
        except BaseException:
            await waiting.to_the_end(asyncio.to_thread(self._undos.abandon, undo.id))
            raise
        names = {old: one.name for old, one in made.items()}
        return Made(aim.archive.id, name, names, directory if others else None, _notes(aim, directory, others))

    async def _fill_directory(
        self, aim: Aim, others: Sequence[str], directory: Path, undo: Undo, work: Unpacking
    ) -> None:
        try:
            temporary = directory.with_name(f"{STAGING}{undo.id}")
            undo = replace(undo, staging=[*undo.staging, temporary])
            await asyncio.to_thread(self._undos.note, undo)
            await asyncio.to_thread(temporary.mkdir, 0o700)
            await work.into(temporary / "new", others)
            await asyncio.to_thread(beside.join, temporary / "new", aim.contents)
            move = await asyncio.to_thread(swap.planned, directory, temporary / "new")
            await asyncio.to_thread(self._undos.turn, replace(undo, moves=[move]), "new")
            await asyncio.to_thread(_remove_empty, temporary / "new", temporary)
        except OSError as error:
            raise NotUnpacked(directory=directory, cause=error) from error


def renamed(contents: Contents, inventory: Inventory, name: str) -> Mapping[str, Volume]:
    """Return the volumes to be made for a project `name`, by those they were; raises `NameTaken`.

    PROJECT_x is NAME_x, any other NAME_volume; what was a directory of the host, bound by a volume, is in Docker's own.
    """
    found: dict[str, Volume] = {}
    for member in contents.sources:
        kind, _, old = member.partition("/")
        if kind != "volumes":
            continue
        told = contents.about.get("volumes", {}).get(old, {})
        labels = dict(told.get("labels", {}))
        project = labels.get(compose.PROJECT) or str(contents.about.get("project", ""))
        short = old.removeprefix(f"{project}_") if project else old
        labels |= {compose.PROJECT: name, _VOLUME: labels.get(_VOLUME, short)}
        labels.pop(_HASH, None)
        options = {} if told.get("driver", "local") != "local" else dict(told.get("options", {}))
        new = f"{name}_{short}"
        path = inventory.data_root / "volumes" / new / "_data"
        found[old] = Volume(new, path, "local", {} if options.get("device") else options, labels)
    names = [one.name for one in found.values()]
    taken = sorted({one for one in names if one in inventory.volumes or names.count(one) > 1})
    if taken:
        raise NameTaken(names=", ".join(taken))
    return found


def _others(aim: Aim) -> Sequence[str]:
    """Return globs of what is asked for and is no volume."""
    members = [one for one in (*aim.contents.sources, *aim.contents.dumps) if not one.startswith("volumes/")]
    files = [name for name in aim.contents.files if not name.startswith("volumes/")]
    if not aim.globs:
        return [glob.escape(one) for one in members]
    return [one for one in aim.globs if any(patterns.chosen(name, [one]) for name in files)]


def _fill(group: Group) -> None:
    """Have each volume be what was unpacked for it, on disk; blocking."""
    try:
        for place in group.places:
            unpacked = group.staging / place.member
            if unpacked.exists():
                unpacked.rename(place.path)  # in place of the empty one
        swap.write_out(group.staging)
        shutil.rmtree(group.staging)
    except OSError as error:
        raise NotUnpacked(directory=group.staging.parent, cause=error) from error


def _remove_empty(*directories: Path) -> None:
    for one in directories:
        with suppress(FileNotFoundError):
            one.rmdir()


def _notes(aim: Aim, directory: Path, others: Sequence[str]) -> Sequence[str]:
    """Return what is to be changed before the project is started: it would use what lives."""
    if not others:
        return []
    mounted = {
        source
        for one in aim.contents.about.get("containers", {}).values()
        for source in one.get("mounts", {}).values()
        if f"paths{source}" in aim.contents.sources
    }
    return [
        f"{source} is mounted by its path; in the project's compose file name {directory}/paths{source}"
        for source in sorted(mounted)
    ]
