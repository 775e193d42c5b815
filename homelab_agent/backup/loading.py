"""Dumps of a copy that come back in place: which there are, who takes them, and how they are loaded beside what lives.

Each database is loaded under another name while the application works with the one that lives; only when all are whole
do they change names (`renaming.py`, PostgreSQL) or tables (`exchanging.py`, MariaDB). Roles and users that are missing
are made, and stay whatever becomes of the restore.
"""

from __future__ import annotations

import glob
import shlex
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from homelab_agent.backup import aim as aiming
from homelab_agent.backup import dumps, exchanging, joined, layout, movable, patterns, renaming, reserved
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.dumps import mariadb, postgres
from homelab_agent.backup.exchanging import Exchange
from homelab_agent.backup.inventory import Container, Inventory
from homelab_agent.backup.point import Contents, Said
from homelab_agent.backup.restore_errors import (
    DatabaseAway,
    DockerNeeded,
    DumpNotTold,
    LoadedByHand,
    UsedByDatabase,
)
from homelab_agent.backup.undo_note import Renaming, Server, ServerKind, Undo
from homelab_agent.core.errors import AgentError

READY_SECONDS = 60.0
_ROLES: Mapping[str, str] = MappingProxyType({"postgres": postgres.GLOBALS, "mariadb": mariadb.USERS})
"""The servers whose databases are exchanged, and which of their dumps has roles and users."""
_MARIADB = 'MYSQL_PWD="${MARIADB_ROOT_PASSWORD:-$MYSQL_ROOT_PASSWORD}" exec mariadb -uroot "$@"'
"""What is run by a shell in the container: the password is in its own variables, and in no argument."""


@dataclass(frozen=True, slots=True)
class Load:
    """A dump that is to come back: what tells how, the members that it was cut into, and its bytes."""

    member: str
    told: Mapping[str, Any]
    pieces: Sequence[str]
    bytes: int

    @property
    def kind(self) -> str:
        """Which database it is of."""
        return str(self.told["kind"])

    @property
    def container(self) -> str:
        """Whose it was, by name."""
        return str(self.told["container"])

    def __str__(self) -> str:
        return f"{self.told['what']} of {self.container} ({self.kind})"


def asked(contents: Contents, globs: Sequence[str], archive: str) -> Sequence[Load]:
    """Return the dumps that are asked for, in the order of loading; raises `DumpNotTold`, `LoadedByHand`.

    With a server's database come the roles and users that it speaks of. Of a dump that is asked for in part there is
    nothing to load, nor of a database that a restore had kept beside when it was taken.
    """
    told = contents.about.get("dumps", {})
    kept = [one for one, known in told.items() if reserved.is_our_database(str(known["what"]))]
    found = [one for one in contents.dumps if patterns.chosen(one, globs) and one not in kept]
    servers = {told[one]["container"] for one in found if one in told and told[one]["kind"] in _ROLES}
    roles = [one for one, known in told.items() if _is_of_roles(known) and known["container"] in servers]
    found += [one for one in contents.dumps if one in roles and one not in found]
    if unknown := [one for one in found if one not in told]:
        raise DumpNotTold(id=archive, names=", ".join(unknown))
    loads = []
    for member in dumps.ordered({one: told[one] for one in found}):
        cut = joined.members(contents, member)
        loads.append(Load(member, told[member], cut, sum(contents.files[one].size for one in cut)))
    if others := [one for one in loads if one.kind not in {*_ROLES, "sqlite"}]:
        commands = "; ".join(by_hand(one) for one in others)
        raise LoadedByHand(names=", ".join(map(str, others)), commands=commands)
    return loads


async def servers(docker: Docker | None, contents: Contents, loads: Sequence[Load], undo_id: str) -> Sequence[Server]:
    """Return the servers that are to take dumps, with the names that these get beside what lives."""
    by_container: dict[str, list[Load]] = {}
    for one in loads:
        if one.kind in _ROLES:
            by_container.setdefault(one.container, []).append(one)
    if docker is None and by_container:
        raise DockerNeeded(id=undo_id, what=f"databases of {', '.join(by_container)}")
    found = []
    for name, ones in by_container.items():
        names = [str(one.told["what"]) for one in ones if not _is_of_roles(one.told)]
        renamings = [Renaming(one, reserved.database(one, undo_id, place)) for place, one in enumerate(names)]
        identity, kind = aiming.identity_of(contents, name), cast("ServerKind", ones[0].kind)
        found.append(Server(identity, str(ones[0].told.get("user", "")), renamings, kind))
    return found


async def serving(docker: Docker | None, wanted: Sequence[Server], places: Sequence[Path]) -> Sequence[Container]:
    """Return the containers of the servers, which run; raises `DatabaseAway`, `UsedByDatabase`."""
    found = []
    for one in wanted:
        container = await docker.find(one.identity) if docker is not None else None
        if container is None:
            raise DatabaseAway(name=one.identity.name, state="gone", repair="docker compose up -d, or docker run")
        if not container.running:
            raise DatabaseAway(name=container.name, state=container.state, repair=f"docker start {container.name}")
        used = [path for path in places for mount in container.mounts if layout.overlap(mount.source, path)]
        if used:
            raise UsedByDatabase(places=", ".join(map(str, used)), name=container.name)
        found.append(container)
    return found


def users(undo: Undo, inventory: Inventory | None) -> Sequence[Container]:
    """Return the set's containers of today that may have its databases open."""
    if inventory is None or not undo.servers:
        return []
    alive = [one for one in inventory.containers if one.state in {"running", "restarting"}]
    return [one for one in alive if aiming.is_known(one, undo.users)]


def globs_of(loads: Sequence[Load]) -> Sequence[str]:
    """Return the globs that have the engine unpack dumps."""
    return [glob.escape(one.member) for one in loads]


async def refuse_unmovable(docker: Docker | None, wanted: Sequence[Server], loads: Sequence[Load]) -> None:
    """Raise `NotMovable` for a database that cannot change places with what is loaded; its server runs."""
    for server in wanted:
        if server.kind == "mariadb" and docker is not None:
            (container,) = await serving(docker, [server], [])
            mine = [one for one in loads if one.container == server.identity.name]
            try:
                asked = await mariadb.reached(docker, container.id, container.name, server.user)
            except AgentError:  # it may have just been started
                await dumps.ready(docker, container.id, mine[0].told, seconds=READY_SECONDS)
                asked = await mariadb.reached(docker, container.id, container.name, server.user)
            for one in server.renamings:
                _refuse(one.live, await movable.obstacles(asked, one.live), mine)


class Loading:
    """Loads the dumps that were unpacked in `staging` beside the databases that live.

    What is noted of a database beside the restore's own note is in `notes`.
    """

    def __init__(self, docker: Docker, loads: Sequence[Load], staging: Path, notes: Path, say: Said) -> None:
        self._docker = docker
        self._loads = [one for one in loads if one.kind in _ROLES]
        self._staging = staging
        self._notes = notes
        self._say = say
        self._done = 0

    async def into(self, server: Server) -> Server:
        """Load all that is of a server; return it with the OIDs of what lives and of what is beside."""
        (container,) = await serving(self._docker, [server], [])
        mine = [one for one in self._loads if one.container == server.identity.name]
        await dumps.ready(self._docker, container.id, mine[0].told, seconds=READY_SECONDS)
        match server.kind:
            case "postgres":
                return await self._renamed(server, container, mine)
            case "mariadb":
                await self._exchanged(server, container, mine)
                return server

    async def _renamed(self, server: Server, container: Container, mine: Sequence[Load]) -> Server:
        names = {one.live: one.beside for one in server.renamings}
        for one in mine:
            async with aclosing(self._read(one)) as content:
                database = names.get(str(one.told["what"]), "")
                await dumps.load(self._docker, container.id, one.told, content, database=database)
        asked = await postgres.reached(self._docker, container.id, container.name, server.user)
        there = await renaming.oids(asked)
        known = [replace(one, old=there.get(one.live), new=there[one.beside]) for one in server.renamings]
        return replace(server, renamings=known)

    async def _exchanged(self, server: Server, container: Container, mine: Sequence[Load]) -> None:
        asked = await mariadb.reached(self._docker, container.id, container.name, server.user)
        exchanges = [exchanging.of(asked, one, self._notes, server.identity.name) for one in server.renamings]
        beside = {one.live: one for one in exchanges}
        for one in mine:  # users last
            async with aclosing(self._read(one)) as content:
                if _is_of_roles(one.told) and exchanges:
                    script = b"".join([piece async for piece in content]).decode()
                    await exchanging.prepare_users(exchanges[-1], script)
                elif _is_of_roles(one.told):
                    await dumps.load(self._docker, container.id, one.told, content)
                else:
                    exchange = beside[str(one.told["what"])]
                    await self._beside(exchange, container, one, content)
                    _refuse(exchange.live, await movable.obstacles(asked, exchange.beside), mine)

    async def _beside(
        self, exchange: Exchange, container: Container, load: Load, content: AsyncIterator[bytes]
    ) -> None:
        programs = bytearray()
        told, beside = load.told, exchange.beside
        await dumps.load(self._docker, container.id, told, content, database=beside, programs=programs)
        await exchanging.prepare(exchange, str(told["charset"]), str(told["collation"]), programs)

    async def _read(self, load: Load) -> AsyncGenerator[bytes, None]:
        total = sum(one.bytes for one in self._loads)
        async with aclosing(joined.read(self._staging / name for name in load.pieces)) as content:
            async for piece in content:
                yield piece
                self._done += len(piece)
                self._say(self._done, total, "loaded")


def _is_of_roles(told: Mapping[str, Any]) -> bool:
    return str(told["what"]) == _ROLES.get(str(told["kind"]))


def _refuse(database: str, obstacles: Sequence[str], loads: Sequence[Load]) -> None:
    if obstacles:
        command = next(by_hand(one) for one in loads if one.told["what"] == database)
        repair = f"restore --to ./copy, stop what uses it, and load it: {command}; files alone come back with --path"
        raise movable.NotMovable(live=database, what="; ".join(obstacles), repair=repair)


def by_hand(load: Load) -> str:
    """Return the command that loads a dump from a copy in `./copy`; a database that was dropped is to be made first."""
    match load.kind:
        case "mariadb":
            if load.told["what"] == mariadb.USERS:  # all of it would give who is there the password of then
                return f"of {shlex.quote(f'copy/{load.member}')} what makes users that are missing"
            words = ["sh", "-c", _MARIADB, "sh", str(load.told["what"])]
        case "mongodb":
            words = ["mongorestore", "--archive", "--drop"]
        case _:
            words = [str(word) for word in load.told.get("load") or ["..."]]
    return f"{shlex.join(['docker', 'exec', '-i', load.container, *words])} < {shlex.quote(f'copy/{load.member}')}"
