"""What `homelab-agent doctor gate` asks: what each door needs of tailscaled, the tailnet and this host.

The agent is taken to run as who owns its state directory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from homelab_agent.core import privilege, process
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.errors import AgentError
from homelab_agent.core.health import Check, Finding
from homelab_agent.core.secret import Secrets
from homelab_agent.gate import node_key, prerequisites, reading
from homelab_agent.gate.prerequisites import Door
from homelab_agent.gate.settings import FUNNEL, GateSettings
from homelab_agent.gate.tailscale import Tailscaled

_STARTS_NOTHING = "[gate] funnel = true (to the internet) or tailnet = true (the page, inside the tailnet)"


def checks(settings: GateSettings, directory: Path, secrets: Secrets) -> Sequence[Check]:
    """Return the checks that need no agent; `directory` is its state directory."""
    return [*beside(settings, directory, secrets), node_key.check(Tailscaled(settings.socket), SystemClock())]


def beside(settings: GateSettings, directory: Path, _secrets: Secrets) -> Sequence[Check]:
    """Return those that a running agent does not ask itself: of each door all that is missing, at once."""
    doors = settings.doors()
    found = [Check("gate.program", partial(_program, settings, has_doors=bool(doors)))]
    for name, port in doors.items():
        found.append(Check(f"gate.{name}.needs", partial(_needs, settings, directory, name, port)))
    return found


async def _program(settings: GateSettings, *, has_doors: bool) -> Finding:
    """Say whether Tailscale's command is there."""
    if not has_doors:
        return Finding.degraded("no door is configured", _STARTS_NOTHING)
    found = await asyncio.to_thread(process.find, settings.program)
    if found is None:
        return Finding.of(process.ProgramMissing(program=settings.program, path="PATH"))
    return Finding.ok(found)


async def _needs(settings: GateSettings, directory: Path, name: str, port: int) -> Finding:
    """Say all that is in a door's way, or will be before long."""
    try:
        told = await Tailscaled(settings.socket).read()
        user = (await asyncio.to_thread(_agents_user, directory)).name
    except AgentError as error:
        return Finding.of(error)
    door = Door(port, is_funnel=name == FUNNEL, user=user, safe_versions=settings.safe_versions)
    found = [one for one in prerequisites.obstacles(told, door, SystemClock().read().wall) if not one.has_check]
    if _is_background(told.config, port):
        found.append(prerequisites.conflict(told.config.entries(port), port))
    if not found:
        return Finding.ok(f"tailscaled {told.version}: nothing is in the way of {told.name}:{port}")
    said, repair = "; ".join(one.what for one in found), "; ".join(one.repair for one in found)
    return Finding.failed(said, repair) if any(one.blocks for one in found) else Finding.degraded(said, repair)


def _is_background(config: reading.ServeConfig, port: int) -> bool:
    """Return whether something is published on the port that stays, whoever's: ours never does."""
    return any(not one.session for one in config.entries(port))


def _agents_user(directory: Path) -> privilege.User:
    return privilege.look_up(privilege.owner(directory))
