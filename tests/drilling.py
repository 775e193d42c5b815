"""A house whose copies are drilled, and a process that drills and is killed: `python -m tests.drilling '{...}'`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from homelab_agent.backup import engines
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.drill import Drilling
from homelab_agent.backup.drill_kinds import PATIENCE, Patience
from homelab_agent.backup.drilled import Drilled, Shown
from homelab_agent.backup.point import Archive
from homelab_agent.backup.settings import ARCHIVE, BackupSet, BackupSettings
from homelab_agent.backup.taking import Taking
from tests.backed_up import quiet
from tests.neighbours.docker import Docker as Neighbour
from tests.processes import mortal


@dataclass(frozen=True, slots=True)
class House:
    """A real Docker, and what backs up and drills there."""

    neighbour: Neighbour
    docker: Docker
    settings: BackupSettings

    @property
    def place(self) -> Path:
        """Where drills restore to."""
        return self.settings.drill_place

    async def back_up(self, **wanted: Any) -> Archive:
        """Back up a set as the root half does."""
        taking = Taking(self.settings, say=quiet, event=lambda _: None)
        engine = engines.make(self.settings, ARCHIVE, {})
        return (await taking.take(BackupSet(name="things", **wanted), engine, "run")).archive

    def drilling(self, patience: Patience = PATIENCE) -> Drilling:
        """Return what drills copies."""
        engine = engines.make(self.settings, ARCHIVE, {})
        return Drilling(engine, self.docker, self.settings, say=quiet, patience=patience)

    async def drill(self, archive: Archive, patience: Patience = PATIENCE) -> Drilled:
        """Drill a copy, and see that nothing is left of it."""
        try:
            return await self.drilling(patience).drill(archive.id)
        finally:
            assert await self.docker.scratches() == []
            assert list(self.place.glob("*")) == []


def made(neighbour: Neighbour, docker: Docker, directory: Path) -> House:
    """Return a house whose copies and records are below a directory."""
    settings = BackupSettings(
        directory=directory / "copies", records=directory / "records", docker=neighbour.socket, drill_memory=512
    )
    return House(neighbour, docker, settings)


def of(drilled: Drilled, what: str) -> Shown:
    """Return what was seen of one thing."""
    return next(one for one in drilled.shown if one.what == what)


@dataclass(frozen=True, slots=True)
class Task:
    """Which copy a process drills."""

    socket: str
    copies: str
    records: str
    archive: str


async def work(task: Task) -> None:
    settings = BackupSettings(directory=Path(task.copies), records=Path(task.records), docker=Path(task.socket))
    async with Docker(settings.docker) as docker:
        await Drilling(engines.make(settings, ARCHIVE, {}), docker, settings, say=quiet).drill(task.archive)


def running(house: House, archive: Archive) -> AbstractContextManager[subprocess.Popen[str]]:
    """Give the process; it is killed when the context ends."""
    settings = house.settings
    task = Task(str(settings.docker), str(settings.directory), str(settings.records), archive.id)
    return mortal("tests.drilling", asdict(task))


if __name__ == "__main__":
    asyncio.run(work(Task(**json.loads(sys.argv[1]))))
