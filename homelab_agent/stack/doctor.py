"""What `homelab-agent doctor stack` asks, as somebody who may ask Docker, with or without an agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from homelab_agent.core.health import Check, Finding, State
from homelab_agent.core.process import ProgramMissing
from homelab_agent.stack import comparison, engine
from homelab_agent.stack.engine import DockerForbidden, DockerSilent, Stack
from homelab_agent.stack.running import Container

JOURNAL = Path("/var/log/journal")
PORT = "127.0.0.1:5432"
_SECONDS = 60.0

Identify: TypeAlias = Callable[[str], Awaitable[tuple[str, str]]]
"""Asks the agent's own database this query; returns its one answer, and where that was, as people are shown it."""


def checks(identify: Identify, *, asked_for: bool) -> Sequence[Check]:
    """Return the checks of the stack; Docker is asked once for all of them.

    Where nobody has asked for them by name, a Docker that does not answer is no fault: it may have no stack.
    """
    excused = (ProgramMissing, DockerForbidden) if asked_for else (ProgramMissing, DockerForbidden, DockerSilent)
    looked: list[asyncio.Task[Stack]] = []

    async def look() -> Stack:
        if not looked:
            looked.append(asyncio.create_task(engine.look(), name="look at the stack"))
        return await asyncio.shield(looked[0])

    def check(name: str, ask: Callable[[Stack], Awaitable[Finding]]) -> Check:
        async def probe() -> Finding:
            try:
                stack = await look()
            except excused as error:
                return Finding(State.NOT_AVAILABLE, error.message, error.repair)
            return await ask(stack) if stack.containers else comparison.of_nothing()

        return Check(f"stack.{name}", probe, deadline=_SECONDS)

    async def databases(stack: Stack) -> Finding:
        return await _databases(stack, identify)

    asked = {"services": _services, "ports": _ports, "volumes": _volumes, "journal": _journal, "database": databases}
    return [check(name, ask) for name, ask in asked.items()]


async def _services(stack: Stack) -> Finding:
    first = stack.containers[0]
    return comparison.of_services(await engine.read(first), stack.containers, first.file)


async def _ports(stack: Stack) -> Finding:
    first = stack.containers[0]
    return comparison.of_ports(await engine.read(first), stack.containers, stack.docker, first.file)


async def _volumes(stack: Stack) -> Finding:
    first = stack.containers[0]
    return comparison.of_volumes(await engine.read(first), stack.volumes, first.file)


async def _journal(_stack: Stack) -> Finding:
    return comparison.of_journal(JOURNAL, there=await asyncio.to_thread(JOURNAL.is_dir))


async def _databases(stack: Stack, identify: Identify) -> Finding:
    postgres = next((one for one in stack.containers if one.service == "postgres"), None)
    if postgres is None:
        return Finding(State.NOT_AVAILABLE, "this host has only the shipper; the database is another's")
    if not postgres.runs:
        return Finding.failed("the stack's PostgreSQL does not run", f"docker logs {postgres.name}")
    mine, shown = await identify(engine.IDENTITY)
    return comparison.of_databases(mine, await engine.identity(postgres), shown=shown, move=_move(postgres))


def _move(postgres: Container) -> str:
    return (
        f"homelab-agent db move --to postgresql://homelab@{PORT}/homelab"
        f" --password file:{postgres.directory}/secrets/for_the_agent"
    )
