"""Everything that comes back is brought beside what lives, and proven, before anybody is stopped for it.

Files are unpacked beside the places, dumps where Docker keeps its data; each is held against its hash. Then SQLite's
files go among the others, and a server's databases are loaded beside those that live. What that comes to is a note
that can be turned (`undo.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from homelab_agent.backup import aim as aiming
from homelab_agent.backup import beyond, loading, moving, sqlite_place, unpacking
from homelab_agent.backup.aim import Aim
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.inventory import Container, Volume
from homelab_agent.backup.layout import Place
from homelab_agent.backup.loading import Load, Loading
from homelab_agent.backup.moving import Group
from homelab_agent.backup.point import Said
from homelab_agent.backup.reserved import STAGING
from homelab_agent.backup.restore_errors import NotAsItWas, NotUnpacked
from homelab_agent.backup.sqlite_place import InPlace
from homelab_agent.backup.undo import Undos
from homelab_agent.backup.undo_note import Server, Undo
from homelab_agent.backup.unpacking import Unpacking
from homelab_agent.core import waiting

_LOADED = 2
"""A dump takes its own room, and a database's as large; its indexes are not counted."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an aim comes to: `parts` are places of which only some files are replaced; `serving` run the `servers`."""

    places: Sequence[Place]
    parts: frozenset[Place]
    makes: Sequence[Volume]
    loads: Sequence[Load]
    files: Sequence[InPlace]
    servers: Sequence[Server]
    serving: Sequence[Container]


async def wanted(aim: Aim, docker: Docker | None, undo_id: str) -> Wanted:
    """Return what is to be brought; raises where something of it cannot be, and touches nothing."""
    loads = loading.asked(aim.contents, aim.globs, aim.archive.id)
    places = [place for place in aim.places if not aim.globs or aim.files_of([place])]
    parts = set(places) if aim.globs else set()
    files = [sqlite_place.found(one, aim) for one in loads if one.kind == "sqlite"]
    for one in files:
        if one.place not in places:
            places.append(one.place)
            parts.add(one.place)
    if not (places or loads):
        raise NotAsItWas(id=aim.archive.id, cause="none of its files are asked for")
    servers = await loading.servers(docker, aim.contents, loads, undo_id)
    serving = await loading.serving(docker, servers, [one.path for one in places])
    await loading.refuse_unmovable(docker, servers, loads)
    makes = aiming.anew(places, aim.contents, aim.inventory)
    return Wanted(places, frozenset(parts), makes, loads, files, servers, serving)


class Bringing:
    """Brings what is wanted of an aim; each step is noted before it is done. Who calls abandons it on failure."""

    def __init__(self, aim: Aim, docker: Docker | None, undos: Undos, work: Unpacking, say: Said) -> None:
        self._aim = aim
        self._docker = docker
        self._undos = undos
        self._work = work
        self._say = say

    async def bring(self, what: Wanted, undo: Undo) -> Undo:
        """Have all of it beside, and return the note of what is to be turned; `undo` is noted already."""
        if self._docker is not None:
            await waiting.to_the_end(beyond.make(self._docker, what.makes, undo.id))
        undo = await asyncio.to_thread(self._make_folders, what, undo)
        groups = await asyncio.to_thread(moving.groups, what.places, undo.id) if what.places else []
        pieces = self._pieces(undo)
        await asyncio.to_thread(self._check_room, what, groups, pieces)
        places = [place.path for group in groups for place in group.places]
        ours = [path for group in groups for path in group.ours]
        undo = replace(undo, places=places, staging=[*ours, *([pieces] if what.loads else [])])
        await asyncio.to_thread(self._undos.note, undo)
        for group in groups:
            await self._work.beside(group)
        if what.loads:
            await self._work.into(pieces, loading.globs_of(what.loads))
            await asyncio.to_thread(_put_files, what, groups, pieces)
            undo = await self._load(what, undo, pieces)
            await asyncio.to_thread(unpacking.remove, pieces)
        return await waiting.to_the_end(asyncio.to_thread(self._prepare, undo, groups, what))

    def _make_folders(self, what: Wanted, undo: Undo) -> Undo:
        """Have the directories in which places are, where they are gone with them."""
        undo = self._undos.note(replace(undo, folders=moving.gone(what.places)))
        for folder in undo.folders:
            try:
                folder.mkdir(0o755)
            except OSError as error:
                raise NotUnpacked(directory=folder, cause=error) from error
        return undo

    async def _load(self, what: Wanted, undo: Undo, pieces: Path) -> Undo:
        if not what.servers or self._docker is None:
            return undo
        work = Loading(self._docker, what.loads, pieces, self._undos.directory, self._say)
        for place, server in enumerate(what.servers):
            filled = await work.into(server)
            undo = replace(undo, servers=[*undo.servers[:place], filled, *undo.servers[place + 1 :]])
            await asyncio.to_thread(self._undos.note, undo)
        return undo

    def _prepare(self, undo: Undo, groups: Sequence[Group], what: Wanted) -> Undo:
        prepared = unpacking.prepare(groups, parts=what.parts)
        moves = [move for one in prepared for move in one.moves]
        for group in groups:
            for place in what.parts & group.places.keys():
                moves += sqlite_place.logs(what.files, group.places[place], place)
        return self._undos.note(replace(undo, moves=moves, staging=[path for one in prepared for path in one.kept]))

    def _check_room(self, what: Wanted, groups: Sequence[Group], pieces: Path) -> None:
        unpacking.check_room(self._aim, groups)
        unpacking.check_bytes(sum(one.bytes for one in what.loads) * _LOADED, pieces.parent)

    def _pieces(self, undo: Undo) -> Path:
        """Return where dumps are unpacked: where Docker keeps its data there is to be room for the databases, too."""
        if self._aim.inventory is not None:
            return self._aim.inventory.data_root / f"{STAGING}{undo.id}"
        return self._undos.directory / f"{undo.id}.dumps"


def _put_files(what: Wanted, groups: Sequence[Group], pieces: Path) -> None:
    for one in what.files:
        for group in groups:
            if one.place in group.places:
                sqlite_place.put(one, pieces, group.staging)
