"""What comes back is unpacked beside what it is to replace, on the same file system, and held against its hashes."""

from __future__ import annotations

import asyncio
import glob
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from homelab_agent.backup import moving, patterns, swap
from homelab_agent.backup.aim import Aim
from homelab_agent.backup.layout import Place
from homelab_agent.backup.moving import Group, Prepared
from homelab_agent.backup.point import Engine, Said
from homelab_agent.backup.restore_errors import NotAsItWas, NotUnpacked, RoomLacks

_SPARE = 1.05


class Unpacking:
    """Unpacks what of a copy is asked for; device nodes only where it is `devices`, which ours may hold."""

    def __init__(self, engine: Engine, aim: Aim, say: Said, *, devices: bool) -> None:
        self._engine = engine
        self._aim = aim
        self._said = say
        self._devices = devices

    async def beside(self, group: Group) -> None:
        """Unpack what is of a group beside it, and have it on disk."""
        files = self._aim.files_of(group.places)
        if not files and self._aim.globs:
            await asyncio.to_thread(group.staging.mkdir, 0o700)
            return
        wanted = [one for one in self._aim.globs if any(patterns.chosen(name, [one]) for name in files)]
        await self.into(group.staging, wanted or [glob.escape(place.member) for place in group.places])

    async def into(self, staging: Path, globs: Sequence[str]) -> None:
        """Unpack members into a new directory, and have them on disk; raises where one is not as it was."""
        try:
            await asyncio.to_thread(staging.mkdir, 0o700)
            found = await self._engine.restore(self._aim.archive.id, staging, globs, self._say, devices=self._devices)
            if not found.good:
                raise NotAsItWas(id=self._aim.archive.id, cause="; ".join(found.faults[:3]))
            await asyncio.to_thread(swap.write_out, staging)
        except OSError as error:
            raise NotUnpacked(directory=staging.parent, cause=error) from error

    def _say(self, done: int, total: int | None, what: str) -> None:
        """Tell of all that is in it, where nobody knows better: an archive is read whole, whatever is taken of it."""
        self._said(done, total or self._aim.archive.bytes, what)


def check_room(aim: Aim, groups: Sequence[Group]) -> None:
    """Raise `RoomLacks` where what comes back does not fit beside what is there; blocking."""
    for group in groups:
        check_bytes(sum(one.size for one in aim.files_of(group.places).values()), group.staging.parent)


def check_bytes(bytes_: int, directory: Path) -> None:
    """Raise `RoomLacks` where so many bytes do not fit; blocking."""
    needed, free = int(bytes_ * _SPARE), shutil.disk_usage(directory).free
    if free < needed:
        raise RoomLacks(directory=directory, needed=needed, free=free)


def remove(staging: Path) -> None:
    """Take away a directory of ours of which all is where it belongs now; blocking."""
    try:
        shutil.rmtree(staging)
    except OSError as error:
        raise NotUnpacked(directory=staging.parent, cause=error) from error


def prepare(groups: Sequence[Group], *, parts: Collection[Place]) -> Sequence[Prepared]:
    """Give all that was unpacked its names beside what it is to replace; blocking."""
    try:
        return [moving.prepare(group, parts=parts) for group in groups]
    except OSError as error:
        raise NotUnpacked(directory=groups[0].staging.parent, cause=error) from error
