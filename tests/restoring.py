"""A process that restores again and again, and is killed in the middle of it: `python -m tests.restoring '{...}'`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from homelab_agent.backup import dumps, exchanging, renaming, swap
from homelab_agent.backup.aim import Wish
from homelab_agent.backup.archive.engine import ArchiveEngine
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.project import Making
from homelab_agent.backup.restore import Restoring
from homelab_agent.core import statefile
from tests.processes import mortal
from tests.swapping import dies_at

MORTAL = (
    (statefile, "write_durably"),
    (Docker, "make_volume"),
    (swap, "rename"),
    (dumps, "load"),
    (renaming, "settle"),
    (exchanging, "run"),
)
"""What a restore may die in place of."""


@dataclass(frozen=True, slots=True)
class Task:
    """Which archives it restores, by turns; it says so before each.

    With `to` it makes a project of them, and a directory there. With `dies_at` it restores them once, and dies in place
    of its so manieth note or deed.
    """

    socket: str
    copies: str
    records: str
    set_name: str
    archives: Sequence[str]
    dies_at: int = -1
    to: str = ""
    globs: Sequence[str] = ()


async def work(task: Task) -> None:
    if task.dies_at >= 0:
        dying = dies_at(task.dies_at)
        for of, name in MORTAL:
            setattr(of, name, dying(getattr(of, name)))
    async with Docker(Path(task.socket)) as docker:
        engine, records = ArchiveEngine(Path(task.copies)), Path(task.records)
        while True:
            for archive in task.archives:
                print(archive, flush=True)
                wish = Wish(task.set_name, archive, globs=task.globs)
                if task.to:
                    await Making(engine, docker, records).make(wish, Path(task.to).name, Path(task.to))
                else:
                    await Restoring(engine, docker, records).restore(wish)
            if task.dies_at >= 0:
                return


def running(task: Task) -> AbstractContextManager[subprocess.Popen[str]]:
    """Give the process; it is killed when the context ends."""
    return mortal("tests.restoring", asdict(task), stdout=subprocess.PIPE)


if __name__ == "__main__":
    asyncio.run(work(Task(**json.loads(sys.argv[1]))))
