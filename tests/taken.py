"""Copies as the root half takes them, in this process or in one that is killed: `python -m tests.taken '{...}'`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from homelab_agent.backup import wire
from homelab_agent.backup.archive.engine import ArchiveEngine
from homelab_agent.backup.settings import BackupSet, BackupSettings
from homelab_agent.backup.taking import Taking
from tests.backed_up import quiet
from tests.neighbours.docker import Docker
from tests.processes import mortal

WRITER = "while :; do date >> /data/log; sleep 0.01; done"


class Taker:
    """What takes copies of containers: `on_event` is told what a run tells."""

    def __init__(self, socket: Path, directory: Path) -> None:
        self.settings = BackupSettings(docker=socket, directory=directory / "copies", records=directory / "kept")
        self.engine = ArchiveEngine(self.settings.directory)
        self.events: list[Mapping[str, Any]] = []
        self.on_event: Callable[[Mapping[str, Any]], None] = self.events.append

    async def take(self, **wanted: Any) -> wire.Done:
        """Take a copy of a set with these keys."""
        taking = Taking(self.settings, say=quiet, event=self.on_event)
        return await taking.take(BackupSet(name="shop", **wanted), self.engine, "run")


class House(Taker):
    """An engine of Docker, and what takes copies of its containers."""

    def __init__(self, docker: Docker, directory: Path) -> None:
        super().__init__(docker.socket, directory)
        self.docker = docker
        self._directory = directory

    def write(self, name: str, volume: str, *words: str, command: str = WRITER) -> None:
        """Start a container that writes to a volume."""
        self.docker("run", "-d", "--name", name, "-v", f"{volume}:/data", *words, "busybox", "sh", "-c", command)

    @property
    def left(self) -> list[Path]:
        """What there is beside copies that count."""
        return [one for one in self.settings.directory.rglob("*.partial*") if one.is_file()]

    def elsewhere(self, volume: str) -> AbstractContextManager[subprocess.Popen[str]]:
        """Have another process take a copy of a volume, which is killed when the context ends."""
        given = {"socket": str(self.docker.socket), "directory": str(self._directory), "volume": volume}
        return mortal("tests.taken", given)


def _main(socket: str, directory: str, volume: str) -> None:
    asyncio.run(Taker(Path(socket), Path(directory)).take(volumes=[volume]))


if __name__ == "__main__":
    _main(**json.loads(sys.argv[1]))
