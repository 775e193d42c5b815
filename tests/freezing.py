"""A process that freezes containers and is killed in the middle of it: `python -m tests.freezing '{...}'`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from homelab_agent.backup import docker as adapter
from homelab_agent.backup.freeze import Mode, Order, frozen
from homelab_agent.backup.frozen import Frozen
from homelab_agent.backup.inventory import Container
from tests.neighbours.docker import Docker
from tests.processes import mortal

Deed: TypeAlias = Literal["pause", "unpause", "stop", "start"]
Dies: TypeAlias = Literal["before", "after", "body", ""]


@dataclass(frozen=True, slots=True)
class Task:
    """What it freezes, and when it dies: before or after its `count`th such deed, in the body; "" is not at all."""

    socket: str
    records: str
    names: Sequence[str]
    mode: Mode
    dies: Dies = ""
    deed: Deed = "pause"
    count: int = 1
    again: bool = False


class Mortal(adapter.Docker):
    """Dies when it is told to."""

    def __init__(self, task: Task) -> None:
        super().__init__(Path(task.socket))
        self._task = task
        self._counts: dict[str, int] = {}

    async def pause(self, container_id: str) -> None:
        self._reach("pause", "before")
        await super().pause(container_id)
        self._reach("pause", "after")

    async def unpause(self, container_id: str) -> None:
        self._reach("unpause", "before")
        await super().unpause(container_id)
        self._reach("unpause", "after")

    async def stop(self, container_id: str, *, seconds: float, signal: str = "") -> None:
        self._reach("stop", "before")
        await super().stop(container_id, seconds=seconds, signal=signal)
        self._reach("stop", "after")

    async def start(self, container_id: str) -> None:
        self._reach("start", "before")
        await super().start(container_id)
        self._reach("start", "after")

    def _reach(self, deed: Deed, moment: Literal["before", "after"]) -> None:
        if moment == "before":
            self._counts[deed] = self._counts.get(deed, 0) + 1
        if (deed, moment, self._counts[deed]) == (self._task.deed, self._task.dies, self._task.count):
            die()


async def named(control: adapter.Docker, name: str) -> Container:
    """Return a container that is there."""
    found = await control.container(name)
    assert found is not None, name
    return found


def die() -> None:
    """End as a process ends that is killed: now."""
    os.kill(os.getpid(), signal.SIGKILL)


async def work(task: Task) -> None:
    records = Frozen(Path(task.records))
    async with Mortal(task) as control:
        while True:
            containers = [await named(control, name) for name in task.names]
            async with frozen(control, records, Order(containers, task.mode, "set", "run")):
                print("frozen", flush=True)
                if task.dies == "body":
                    die()
                if not task.dies:
                    await asyncio.sleep(0.02 if task.again else 3600)
            if not task.again:
                return


@contextmanager
def freezing(
    docker: Docker,
    records: Path,
    names: Sequence[str],
    mode: Mode,
    *,
    dies: Dies = "",
    deed: Deed = "pause",
    count: int = 1,
    again: bool = False,
) -> Iterator[subprocess.Popen[str]]:
    """Give the process; it is killed when the context ends."""
    task = Task(str(docker.socket), str(records), list(names), mode, dies, deed, count, again)
    with mortal("tests.freezing", asdict(task), stdout=subprocess.PIPE) as child:
        yield child


if __name__ == "__main__":
    asyncio.run(work(Task(**json.loads(sys.argv[1]))))
