"""Where a copy is restored to for a drill: a directory of ours alone, which is gone when the drill is.

The directory is there before any container is made for the drill, and goes after the last of them: it is the note by
which a killed drill is cleared away. Who drills holds a lock above it, which the kernel lets go when the process ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from homelab_agent.backup.docker import Docker
from homelab_agent.backup.drill_errors import DrillUnderWay, NoPlaceToDrill
from homelab_agent.backup.wire import Swept
from homelab_agent.core import journal, waiting
from homelab_agent.core.errors import AgentError, describe
from homelab_agent.core.uuid7 import uuid7

PREFIX = "homelab-agent-drill-"
"""Begins the name of the directory, and of each container of the drill."""
LABEL = "homelab-agent.drill"
"""By which of a drill's containers are found; its value is the directory's name."""

log = journal.logger("backup")


@asynccontextmanager
async def place(top: Path, docker: Docker) -> AsyncIterator[Path]:
    """Give a new directory below `top`; its containers and all that is in it are gone afterwards.

    Raises `DrillUnderWay` and `NoPlaceToDrill`. What a killed drill has left is cleared away first.
    """
    async with _alone(top):
        for left in await asyncio.to_thread(_left, top):
            await _clear(left, docker)
        try:
            directory = top / f"{PREFIX}{uuid7()}"
            await asyncio.to_thread(directory.mkdir, 0o700)
        except OSError as error:
            raise NoPlaceToDrill(directory=top, cause=error) from error
        try:
            yield directory
        finally:
            await waiting.to_the_end(_clear(directory, docker))


async def sweep(top: Path, socket: Path) -> Swept:
    """Clear away what killed drills have left; a living drill keeps what it has. Raises nothing."""
    if not await asyncio.to_thread(_left, top):
        return Swept()
    gone: list[str] = []
    try:
        async with _alone(top), Docker(socket) as docker:
            for left in await asyncio.to_thread(_left, top):
                await _clear(left, docker)
                gone.append(f"what the drill {left.name.removeprefix(PREFIX)} had left")
    except DrillUnderWay:
        return Swept()
    except AgentError as error:  # the next one who sweeps does it
        log.warning("backup.drill_left", directory=str(top), cause=str(error))
        return Swept(gone, [f"what a drill has left in {top} stays: {describe(error)}"])
    return Swept(gone)


async def _clear(directory: Path, docker: Docker) -> None:
    """Remove a drill's containers with their volumes, then its files."""
    for container in await docker.scratches(**{LABEL: directory.name}):
        await docker.remove(container)
    try:
        await asyncio.to_thread(shutil.rmtree, directory)
    except OSError as error:
        raise NoPlaceToDrill(directory=directory, cause=error) from error


@asynccontextmanager
async def _alone(top: Path) -> AsyncIterator[None]:
    """Let nobody else drill meanwhile; the kernel ends it with the process (flock(2))."""
    try:
        held = await asyncio.to_thread(_locked, top)
    except BlockingIOError:
        raise DrillUnderWay from None
    except OSError as error:
        raise NoPlaceToDrill(directory=top, cause=error) from error
    try:
        yield
    finally:
        os.close(held)


def _locked(top: Path) -> int:
    top.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _left(top: Path) -> Sequence[Path]:
    return sorted(top.glob(f"{PREFIX}*"))
