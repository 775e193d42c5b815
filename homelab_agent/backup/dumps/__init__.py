"""Databases write themselves out and are read back, each by its own programs in its container.

A dump's member is `dumps/CONTAINER/WHAT`; what is told beside it (`about["dumps"]`) is all that its reading back needs.
Bytes are streamed: nothing here holds a database in memory, or on disk but for SQLite's copy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from homelab_agent.backup.control import Control
from homelab_agent.backup.docker_errors import (
    CommandCutShort,
    CommandFailed,
    CommandTooSlow,
    ContainerNotSo,
    last_words,
    repair_of,
)
from homelab_agent.backup.dumping import PlannedDump
from homelab_agent.backup.dumps import command, mariadb, mongodb, postgres, sqlite
from homelab_agent.backup.dumps.dumped import Dumped, Told
from homelab_agent.backup.dumps.errors import DumpFailed, LoadFailed, NotReady
from homelab_agent.core.errors import AgentError

__all__ = ["Dumped", "Told", "load", "of", "ordered", "ready"]

AGAIN_SECONDS = 0.5
SETTLED_SECONDS = 1.0
HIDDEN_SECONDS = 6.0
"""How long the same server has to have answered: one that others reach, and one that listens to nobody.

The official images fill a new server while it listens to nobody, and then start it anew.
"""


async def of(planned: PlannedDump, control: Control) -> Sequence[Dumped]:
    """Ask the server what there is to dump, and return that.

    Raises `NotReached`, `NotAFileOfIt`, and `DumpFailed` where it does not say.
    """
    name = planned.container.name
    try:
        return await _of(planned, control)
    except (CommandFailed, CommandCutShort, CommandTooSlow) as error:
        repair = repair_of(error, name)
        raise DumpFailed(what="what is in it", container=name, repair=repair, cause=last_words(error)) from error


async def _of(planned: PlannedDump, control: Control) -> Sequence[Dumped]:
    match planned.dump.kind:
        case "postgres":
            return await postgres.of(planned, control)
        case "mariadb":
            return await mariadb.of(planned, control)
        case "mongodb":
            return await mongodb.of(planned, control)
        case "sqlite":
            return await sqlite.of(planned)
        case "command":
            return command.of(planned, control)


async def load(
    control: Control,
    container_id: str,
    told: Told,
    pieces: AsyncIterator[bytes],
    *,
    database: str = "",
    programs: bytearray | None = None,
) -> None:
    """Read one dump back into the server in a container, which has to be `ready`.

    `database` is another one to make and fill than its own (PostgreSQL, MariaDB); `programs` takes what acts on
    MariaDB's tables, which is not run then. One that has tables is left as it is
    (`NotEmpty`), one that was made for this and could not be filled is dropped. Of roles and users only those are made
    that are missing. Raises `LoadFailed` with the server's last words.
    """
    try:
        match str(told["kind"]):
            case "postgres":
                await postgres.load(control, container_id, told, pieces, database=database)
            case "mariadb":
                await mariadb.load(control, container_id, told, pieces, database=database, programs=programs)
            case "mongodb":
                await mongodb.load(control, container_id, told, pieces)
            case "sqlite":
                await sqlite.load(control, container_id, told, pieces)
            case _:
                await command.load(control, container_id, told, pieces)
    except AgentError as error:
        name = str(told["container"])
        raise LoadFailed(
            what=told["what"], container=name, repair=repair_of(error, name), cause=last_words(error)
        ) from error


async def ready(control: Control, container_id: str, told: Told, *, seconds: float) -> None:
    """Wait until the database in a container takes queries, and is the server that will stay; raises `NotReady`."""
    first: tuple[str, float] | None = None
    now = asyncio.get_running_loop().time
    end, cause = now() + seconds, ""
    while now() < end:
        try:
            async with asyncio.timeout_at(end):
                at, listens = await _started(control, container_id, told)
        except (AgentError, TimeoutError) as error:
            first, cause = None, cause if isinstance(error, TimeoutError) else str(error)
            found = await control.container(container_id)
            if found is None or found.state in {"exited", "dead"}:
                break
        else:
            if first is None or first[0] != at:
                first = (at, now())
            if now() - first[1] >= (SETTLED_SECONDS if listens else HIDDEN_SECONDS):
                return
        await asyncio.sleep(AGAIN_SECONDS)
    raise NotReady(kind=told["kind"], container=told["container"], seconds=seconds, cause=cause)


def ordered(told: Mapping[str, Told]) -> Sequence[str]:
    """Return the members of `about["dumps"]` in the order of loading: roles before what they own, users after."""
    places = {postgres.GLOBALS: 0, mariadb.USERS: 2}
    return sorted(told, key=lambda one: (told[one]["container"], places.get(str(told[one]["what"]), 1), one))


async def _started(control: Control, container_id: str, told: Told) -> tuple[str, bool]:
    """Return what tells one life of a server from the next, and whether others reach it."""
    match str(told["kind"]):
        case "postgres":
            return await postgres.started(control, container_id, told)
        case "mariadb":
            return await mariadb.started(control, container_id, told)
        case "mongodb":
            return await mongodb.started(control, container_id)
        case _:  # a file, or a command of which nothing is known: that the container runs is all
            found = await control.container(container_id)
            if found is None or not found.running:
                raise ContainerNotSo(action="reach", container=container_id)
            return found.started_at, True
