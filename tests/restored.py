"""What a test of restores stands on: a real Docker, copies of what is in it, and what brings them back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from homelab_agent.backup import dumps, swap
from homelab_agent.backup.aim import Wish
from homelab_agent.backup.archive.engine import ArchiveEngine
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.dumping import PlannedDump
from homelab_agent.backup.inventory import Container
from homelab_agent.backup.point import Archive, Dump, Source
from homelab_agent.backup.reserved import UNDO
from homelab_agent.backup.restore import Restored, Restoring
from homelab_agent.backup.settings import BackupSet, BackupSettings
from homelab_agent.backup.settings import Dump as BackupDump
from homelab_agent.backup.taking import Taking
from homelab_agent.backup.trust import Trust
from homelab_agent.backup.undo import Undos
from homelab_agent.backup.undo_note import Undo
from homelab_agent.core.clock import SystemClock
from tests.backed_up import point, quiet
from tests.freezing import named
from tests.neighbours.docker import Docker as Neighbour

AT = datetime(2026, 11, 28, 1, tzinfo=UTC)


class House:
    """A real Docker, copies of its volumes, and what restores them."""

    def __init__(self, neighbour: Neighbour, docker: Docker, directory: Path) -> None:
        self.neighbour = neighbour
        self.docker = docker
        self.copies = directory / "copies"
        self.records = directory / "records"
        self.engine = ArchiveEngine(self.copies)
        self.undos = Undos(self.records)
        self.restoring = Restoring(self.engine, docker, self.records)

    def volume(self, name: str) -> Path:
        """Return where a volume is, made where it was not."""
        self.neighbour("volume", "create", name)
        return Path(self.neighbour("volume", "inspect", "--format", "{{.Mountpoint}}", name))

    async def copy(
        self, *sources: Source, trusted: bool = True, about: dict[str, Any] | None = None, dumps: Sequence[Dump] = ()
    ) -> Archive:
        """Copy sources and dumps as they are now."""
        what = point(*sources, about=about or {}, dumps=dumps)
        archive = await self.engine.finish(await self.engine.copy(what, quiet), what, quiet)
        if trusted:
            await asyncio.to_thread(Trust(self.records).note, archive, SystemClock().read().wall)
        return archive

    async def back_up(self, **wanted: Any) -> Archive:
        """Back up a set called things, as the root half does."""
        settings = BackupSettings(docker=self.docker.socket, directory=self.copies, records=self.records)
        taking = Taking(settings, say=quiet, event=lambda _: None)
        return (await taking.take(BackupSet(name="things", **wanted), self.engine, "run")).archive

    async def restore(self, **wish: Any) -> Restored:
        return await self.restoring.restore(Wish("things", **wish))

    async def clean(self, *directories: Path) -> None:
        """Fail where a restore that was refused has left anything."""
        assert await asyncio.to_thread(self.undos.list) == []
        for directory in directories:
            assert [path.name for path in directory.iterdir() if path.name.startswith(".homelab-agent")] == []


def about(*containers: Container) -> dict[str, Any]:
    """Return what a copy says of its containers."""
    told = {
        one.name: {"service": "", "mounts": {mount.target: mount.name or str(mount.source) for mount in one.mounts}}
        for one in containers
    }
    return {"project": "", "containers": told}


async def copied(house: House, dump: BackupDump, *sources: Source, names: Sequence[str] = ()) -> Archive:
    """Copy what a container dumps, with sources; `names` are others of the set."""
    containers = [await named(house.docker, name) for name in (dump.container, *names)]
    found = await dumps.of(PlannedDump(containers[0], dump), house.docker)
    said = {**about(*containers), "dumps": {one.member: one.about for one in found}}
    return await house.copy(*sources, about=said, dumps=found)


def source(member: str, path: Path) -> Source:
    return Source(member, path)


def half_replaced(undos: Undos, place: Path) -> Undo:
    """Leave what a restore does that is killed when all has changed places, and nobody has noted that."""
    beside = place.with_name(f"{UNDO}id-{place.name}")
    beside.mkdir()
    for directory, word in ((place, "old"), (beside, "new")):
        (directory / "file").write_text(word)
    moves = [swap.planned(place, beside)]
    undos.directory.mkdir(parents=True, exist_ok=True)
    undo = undos.note(Undo("id", "things", "archive", AT, "replacing", places=[place], moves=moves))
    swap.settle(moves, "new")
    return undo
