"""The dumps of a container of a copy: given to the server that was started for them, or put where a file of it was."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias, cast, get_args

from homelab_agent.backup import databases, drilled, dumps, layout
from homelab_agent.backup.drill_trial import Copy, DumpKind, Part, Trial
from homelab_agent.backup.dumps import Told
from homelab_agent.backup.inventory import Container

Opened: TypeAlias = Callable[[str], Awaitable[AbstractAsyncContextManager[AsyncIterator[bytes]]]]
_FILE = "sqlite"


@dataclass(frozen=True, slots=True)
class Dumps:
    """How each is read back, by member, and what opens one; of a container that dumps nothing `told` is empty."""

    told: Mapping[str, Told]
    opened: Opened

    @property
    def kind(self) -> DumpKind | None:
        """What kind of server is to be given them; None where that is none."""
        return next((cast("DumpKind", kind) for one in self.told.values() if (kind := one["kind"]) != _FILE), None)

    @property
    def user(self) -> str:
        """Whom the server knows as its master; "" where nothing says so."""
        return next((str(one["user"]) for one in self.told.values() if one.get("user")), "")

    @property
    def first(self) -> Sequence[str]:
        """The variables with which its image makes a new server that takes them."""
        user, password = self.user, secrets.token_hex(16)
        match self.kind:
            case "postgres":
                return [f"POSTGRES_USER={user}", f"POSTGRES_PASSWORD={password}"]
            case "mariadb":
                return [f"MARIADB_ROOT_PASSWORD={password}", f"MYSQL_ROOT_PASSWORD={password}"]
            case "mongodb" if user:
                return [f"MONGO_INITDB_ROOT_USERNAME={user}", f"MONGO_INITDB_ROOT_PASSWORD={password}"]
            case _:
                return []

    def kind_of(self, container: Container) -> databases.Kind | None:
        """Return which database a container is, by its dumps, else by what it looks like."""
        if self.kind is not None:
            return next((kind for kind in get_args(databases.Kind) if kind == self.kind), None)
        found = databases.recognise(container)
        return None if found is None else found.kind

    async def load(self, trial: Trial) -> str:
        """Give them to the server, which has to be ready, and return in words what was done; "" where there are none.

        Raises `LoadFailed`.
        """
        members = [member for member in dumps.ordered(self.told) if self.told[member]["kind"] != _FILE]
        if any(self.told[member]["kind"] == "command" and not self.told[member].get("load") for member in members):
            return "its output is as it was written, and no `load` says what reads it"
        for member in members:
            async with await self.opened(member) as pieces:
                await dumps.load(trial.docker, trial.container.id, self.told[member], pieces)
        return f"{drilled.count(len(members), 'dump')} loaded" if members else ""

    async def put_files(self, part: Part, copy: Copy) -> None:
        """Put what is a file itself (SQLite) to its place in the copy; beside that where the place is not in it."""
        for member, told in self.told.items():
            if told["kind"] == _FILE:
                place = await asyncio.to_thread(_place, part, copy, PurePosixPath(str(told["path"])), member)
                async with await self.opened(member) as pieces:
                    await _write(place, pieces)


def _place(part: Part, copy: Copy, path: PurePosixPath, member: str) -> Path:
    target = layout.innermost(path, part.mounts, PurePosixPath)
    below = copy.found(part.mounts[target]) if target is not None else None
    place = copy.top / member if target is None or below is None else below / path.relative_to(target)
    if place.resolve() != copy.top.resolve() / place.relative_to(copy.top):
        place = copy.top / member  # a link in the copy could lead to what lives
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


async def _write(place: Path, pieces: AsyncIterator[bytes]) -> None:
    """Write a file that its program may open as whose the directory is."""
    file = await asyncio.to_thread(place.open, "wb", 0)
    with file:
        owner = await asyncio.to_thread(place.parent.stat)
        os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        async for piece in pieces:
            await asyncio.to_thread(file.write, piece)
