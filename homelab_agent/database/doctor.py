"""What can be said of PostgreSQL from outside, while no agent runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from homelab_agent.core.errors import NeighbourUnreachable
from homelab_agent.core.health import Check, Finding
from homelab_agent.core.secret import Secrets
from homelab_agent.database import account, editions, embedded, migrations, pool
from homelab_agent.database.address import Address, Elsewhere
from homelab_agent.database.database import OTHER_REPAIR
from homelab_agent.database.place import Place
from homelab_agent.database.settings import EMBEDDED, DatabaseSettings


def checks(settings: DatabaseSettings, directory: Path, secrets: Secrets) -> Sequence[Check]:
    """Return the checks of PostgreSQL that need no agent; `directory` is the agent's state directory."""

    async def connection() -> Finding:
        try:
            where = await asyncio.to_thread(find_address, settings, directory, secrets)
            async with pool.single(where, repair=OTHER_REPAIR) as connection:
                return Finding.ok(f"{await editions.look(connection)}; {where.shown}")
        except (NeighbourUnreachable, embedded.NotStarted) as error:
            return await asyncio.to_thread(_not_running, settings) or Finding.of(error)

    async def schema() -> Finding:
        where = await asyncio.to_thread(find_address, settings, directory, secrets)
        async with pool.single(where, repair=OTHER_REPAIR) as connection:
            edition = await editions.look(connection)
            loaded = await asyncio.to_thread(migrations.load, edition.name)
            missing = migrations.pending(loaded, await migrations.read_applied(connection))
        if missing:
            return Finding.degraded(f"{len(missing)} migrations are to be applied", "homelab-agent db migrate")
        return Finding.ok(f"{len(loaded)} migrations, {edition.name} edition")

    outside = [Check("database.connection", connection, deadline=15.0)]
    return outside if settings.url == EMBEDDED else [*outside, Check("database.schema", schema, deadline=15.0)]


def find_address(settings: DatabaseSettings, directory: Path, secrets: Secrets) -> Address:
    """Return where PostgreSQL is, for who is not the agent; raises `AgentError`s; reads files."""
    if settings.url != EMBEDDED:
        return Elsewhere(settings, secrets).address()
    return embedded.address(Place.of(directory.resolve(), account.ourselves()))


async def ask(settings: DatabaseSettings, directory: Path, secrets: Secrets, query: str) -> tuple[str, str]:
    """Return the one answer of a query in the agent's database, and where that is; raises `AgentError`s."""
    where = await asyncio.to_thread(find_address, settings, directory, secrets)
    async with pool.single(where, repair=OTHER_REPAIR) as connection:
        return str(await connection.fetchval(query)), where.shown


def _not_running(settings: DatabaseSettings) -> Finding | None:
    """Return what to say of an embedded server that is only up while the agent is."""
    if settings.url != EMBEDDED:
        return None
    programs = embedded.find_programs()
    if programs is None:
        return Finding.of(embedded.NoPrograms())
    return Finding.ok(f"PostgreSQL {programs.major} ({programs.identity}) starts with the agent")
