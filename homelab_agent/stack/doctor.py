"""What `homelab-agent doctor stack` asks, as somebody who may ask Docker, with or without an agent."""

from __future__ import annotations

import asyncio
import pwd
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from homelab_agent.core import privilege
from homelab_agent.core.health import Check, Finding, State
from homelab_agent.core.journal import journalctl
from homelab_agent.core.process import ProgramMissing
from homelab_agent.stack import comparison, engine
from homelab_agent.stack.engine import DockerForbidden, DockerSilent, Stack
from homelab_agent.stack.running import Container

PORT = "127.0.0.1:5432"
HANDED_OVER = Path("/etc/homelab-agent/stack-database-password")
"""The password of the stack's PostgreSQL, for an agent that is not who ran `make up`."""
NO_SHIPPER = "no shipper of the stack is on this host"
_SECONDS = 60.0

Identify: TypeAlias = Callable[[str], Awaitable[tuple[str, str]]]
"""Asks the agent's own database this query; returns its one answer, and where that was, as people are shown it."""


def checks(identify: Identify, host: str, state: Path, *, asked_for: bool) -> Sequence[Check]:
    """Return the checks of the stack; Docker is asked once for all of them.

    `host` is what the agent calls this host, `state` its state directory.
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
        return await _databases(stack, identify, state)

    async def called(stack: Stack) -> Finding:
        shipper = _shipper(stack)
        return comparison.of_host(host, shipper) if shipper else Finding(State.NOT_AVAILABLE, NO_SHIPPER, "make up")

    asked = {
        "services": _services, "ports": _ports, "volumes": _volumes, "journal": _journal, "host": called,
        "database": databases,
    }  # fmt: skip
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


async def _journal(stack: Stack) -> Finding:
    shipper = _shipper(stack)
    journal = Path(shipper.journal) if shipper else journalctl.PERSISTENT
    there, volatile = await asyncio.to_thread(lambda: (journal.is_dir(), journalctl.is_volatile()))
    return comparison.of_journal(journal, there=there, volatile=volatile)


def _shipper(stack: Stack) -> Container | None:
    shippers = [one for one in stack.containers if one.journal]
    return next((one for one in shippers if one.status == "running"), next(iter(shippers), None))


async def _databases(stack: Stack, identify: Identify, state: Path) -> Finding:
    postgres = next((one for one in stack.containers if one.service == "postgres"), None)
    if postgres is None:
        return Finding(State.NOT_AVAILABLE, "this host has only the shipper; the database is another's")
    if postgres.starts:
        return Finding.degraded("the stack's PostgreSQL is still starting", comparison.AGAIN)
    if not postgres.runs:
        return Finding.failed("the stack's PostgreSQL does not run", f"docker logs {postgres.name}")
    mine, shown = await identify(engine.IDENTITY)
    move = await asyncio.to_thread(_move, Path(postgres.directory) / "secrets", state)
    return comparison.of_databases(mine, await engine.identity(postgres), shown=shown, move=move)


def _move(secrets: Path, state: Path) -> str:
    """Return what takes the agent's database there, as `make up` prints it; `state` is whose the agent is."""
    hand_over, file = "", secrets / "for_the_agent"
    if privilege.owner(state) != privilege.owner(secrets):
        file = HANDED_OVER
        hand_over = (
            f"sudo install -D -o {_name(privilege.owner(state))} -m 600 {secrets}/agent_database_password {file}; "
        )
    return f"{hand_over}homelab-agent db move --to postgresql://homelab@{PORT}/homelab --password file:{file}"


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
