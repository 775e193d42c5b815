"""What a restore changes through Docker, beside files: databases of a server, and the volumes that it makes anew.

The note is on disk before a volume is made, and a volume of ours says by its label for which restore: what somebody
else has made under the same name meanwhile is never removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from homelab_agent.backup import dumps, exchanging, loading, renaming, undo_note
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.dumps import mariadb, postgres
from homelab_agent.backup.exchanging import Exchange
from homelab_agent.backup.inventory import Container, Volume
from homelab_agent.backup.restore_errors import DatabaseAway, VolumeNotOurs
from homelab_agent.backup.still import Still
from homelab_agent.backup.swap import Side
from homelab_agent.backup.undo_note import Server, Undo
from homelab_agent.core import journal
from homelab_agent.core.errors import AgentError

LABEL = "homelab-agent.restore"
"""On a volume that a restore has made: the restore's id."""
READY_SECONDS = 120.0
"""What a server may take to start, also after a power cut."""

log = journal.logger("backup")


class ThroughDocker:
    """Is `undo_beyond.Beyond`, for a thread: what it asks is asked on the loop, which does not wait for it."""

    def __init__(self, docker: Docker, records: Path, loop: asyncio.AbstractEventLoop) -> None:
        """Note in `records`, the root half's directory, who is stopped."""
        self._docker = docker
        self._records = records
        self._notes = records / undo_note.DIRECTORY
        self._loop = loop

    def while_still(self, undo: Undo, work: Callable[[], None]) -> None:
        """Have the containers stopped meanwhile that Docker, or somebody, has started since a restore was killed."""
        self._ask(_while_still(self._docker, self._records, undo, work))

    def check(self, undo: Undo) -> None:
        """Ask each server whether its databases are those of the note."""
        for server in undo.servers:
            self._ask(_check(self._docker, server, undo.other, self._notes))

    def settle(self, undo: Undo, side: Side) -> None:
        """Have the databases of that side stand under their names; a server that does not run is started for it."""
        for server in undo.servers:
            self._ask(_settle(self._docker, server, side, self._notes))

    def discard(self, undo: Undo) -> None:
        """Drop the databases that are kept, and remove the volumes of a restore that came to nothing."""
        for server in undo.servers:
            self._ask(_drop(self._docker, server, self._notes))
        exchanging.forget(self._notes, undo.id)
        if undo.first:
            self._ask(remove(self._docker, undo))

    def _ask(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _while_still(docker: Docker, records: Path, undo: Undo, work: Callable[[], None]) -> None:
    inventory = await docker.inventory()
    serving = [found for one in undo.servers if (found := await docker.find(one.identity)) is not None]
    also = loading.users(undo, inventory)
    async with Still(docker, records).keeping(undo, inventory, also=also, spare=serving, half=True):
        await asyncio.to_thread(work)


async def _check(docker: Docker, server: Server, side: Side, notes: Path) -> None:
    found = await _found(docker, server)
    match server.kind:
        case "postgres":
            await renaming.check(await _postgres(docker, server, found), server.renamings, side)
        case "mariadb":
            for one in await _exchanges(docker, server, found, notes):
                await exchanging.check(one, side)


async def _settle(docker: Docker, server: Server, side: Side, notes: Path) -> None:
    found = await _found(docker, server)
    if not found.running:
        await docker.start(found.id)
    try:
        await _reached(docker, server, found)
    except AgentError:  # it starts, or recovers from a power cut
        told = {"container": found.name, "kind": server.kind, "user": server.user}
        await dumps.ready(docker, found.id, told, seconds=READY_SECONDS)
    match server.kind:
        case "postgres":
            await renaming.settle(await _postgres(docker, server, found), server.renamings, side)
        case "mariadb":
            await exchanging.settle(await _exchanges(docker, server, found, notes), side)


async def _drop(docker: Docker, server: Server, notes: Path) -> None:
    found = await docker.find(server.identity)
    if found is None:  # with its volume, or it is another one: nothing of it can be dropped
        log.warning("backup.databases_left", container=server.identity.name)
        return
    if not found.running:
        raise DatabaseAway(name=found.name, state=found.state, repair=f"docker start {found.name}")
    match server.kind:
        case "postgres":
            await renaming.drop(await _postgres(docker, server, found), server.renamings)
        case "mariadb":
            for one in await _exchanges(docker, server, found, notes):
                await exchanging.drop(one)


async def _found(docker: Docker, server: Server) -> Container:
    found = await docker.find(server.identity)
    if found is None:
        raise DatabaseAway(name=server.identity.name, state="gone", repair="docker compose up -d")
    return found


async def _reached(docker: Docker, server: Server, found: Container) -> None:
    match server.kind:
        case "postgres":
            await _postgres(docker, server, found)
        case "mariadb":
            await mariadb.reached(docker, found.id, found.name, server.user)


async def _postgres(docker: Docker, server: Server, found: Container) -> postgres.Server:
    return await postgres.reached(docker, found.id, found.name, server.user)


async def _exchanges(docker: Docker, server: Server, found: Container, notes: Path) -> Sequence[Exchange]:
    reached = await mariadb.reached(docker, found.id, found.name, server.user)
    return [exchanging.of(reached, one, notes, server.identity.name) for one in server.renamings]


async def make(docker: Docker, volumes: Sequence[Volume], undo_id: str) -> None:
    """Make volumes, each where it is said to be; raises `VolumeNotOurs`. They are noted already."""
    for one in volumes:
        await docker.make_volume(replace(one, labels={**one.labels, LABEL: undo_id}))
        made = await docker.volume(one.name)
        if made is None or made.labels.get(LABEL) != undo_id or made.path != one.path:
            raise VolumeNotOurs(name=one.name, cause="" if made is None else f"it is at {made.path}")


async def remove(docker: Docker, undo: Undo) -> None:
    """Remove what was made for a restore, and is still that."""
    for name in undo.volumes:
        found = await docker.volume(name)
        if found is not None and found.labels.get(LABEL) == undo.id:
            await docker.remove_volume(name)
