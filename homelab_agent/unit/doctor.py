"""What `homelab-agent doctor unit` asks, with or without a running agent."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from homelab_agent.core.errors import AgentError
from homelab_agent.core.health import Check, Finding, State
from homelab_agent.core.process import ProgramMissing
from homelab_agent.unit import asking, comparison, power
from homelab_agent.unit.asking import SERVICE, SERVICES, SystemdSilent, Unit

_SECONDS = 60.0
_RUNNING = Path("/run/systemd/system")
_INSTALL = "sudo make install makes it one"


def checks(verbs: Callable[[], Collection[str]], needed: Mapping[str, Sequence[str]]) -> Sequence[Check]:
    """Return the checks of the service; systemd is asked once for all of them. `verbs` may raise why there are none.

    `needed` is by name of a credential the keys of the configuration that are references to it.
    """
    looked: list[asyncio.Task[Mapping[str, Unit]]] = []

    async def look() -> Mapping[str, Unit]:
        if not looked:
            looked.append(asyncio.create_task(asking.units(), name="look at the units"))
        return await asyncio.shield(looked[0])

    def check(name: str, ask: Callable[[Mapping[str, Unit]], Awaitable[Finding]]) -> Check:
        async def probe() -> Finding:
            if not await asyncio.to_thread(_RUNNING.is_dir):
                return Finding(State.NOT_AVAILABLE, "systemd does not run here, so the agent is no service")
            try:
                units = await look()
            except ProgramMissing as error:
                return Finding(State.NOT_AVAILABLE, error.message, error.repair)
            if not units[SERVICE].is_there:
                return Finding(State.NOT_AVAILABLE, "the agent is not installed as a service", _INSTALL)
            return await ask(units)

        return Check(f"unit.{name}", probe, deadline=_SECONDS)

    async def root_half(_: Mapping[str, Unit]) -> Finding:
        try:
            return Finding.ok(power.told(await asyncio.to_thread(verbs)))
        except AgentError as error:
            return Finding.of(error)

    return (
        check("enabled", _pure(comparison.of_enabling)),
        check("sockets", _pure(comparison.of_sockets)),
        check("files", _pure(comparison.of_files)),
        check("program", _program),
        check("sandbox", _sandbox),
        check("credentials", partial(_credentials, needed)),
        check("root_half", root_half),
    )


def _pure(judge: Callable[[Mapping[str, Unit]], Finding]) -> Callable[[Mapping[str, Unit]], Awaitable[Finding]]:
    async def ask(units: Mapping[str, Unit]) -> Finding:
        return judge(units)

    return ask


async def _program(units: Mapping[str, Unit]) -> Finding:
    current = await asyncio.to_thread(_current)
    return comparison.of_program(await asking.running(units[SERVICE]), current, Path(sys.executable))


async def _credentials(needed: Mapping[str, Sequence[str]], _: Mapping[str, Unit]) -> Finding:
    try:
        return comparison.of_credentials(await asking.credentials(), needed)
    except ProgramMissing as error:
        return Finding(State.NOT_AVAILABLE, error.message, error.repair)


async def _sandbox(units: Mapping[str, Unit]) -> Finding:
    there = [name for name in SERVICES if name in units and units[name].is_there]
    try:
        scores = {name: await asking.sandbox(name) for name in there}
    except (ProgramMissing, SystemdSilent) as error:
        found = comparison.of_sandbox(units, {})
        if found.state is not State.OK:
            return found
        return Finding(State.NOT_AVAILABLE, f"there is no score: {error.message}", error.repair)
    return comparison.of_sandbox(units, scores)


def _current() -> Path | None:
    link = asking.PREFIX / "current"
    with suppress(OSError):
        return link.resolve(strict=True)
    return None
