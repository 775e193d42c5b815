"""`homelab-agent doctor`: ask every check now, the running agent's and those that need no agent."""

from __future__ import annotations

import asyncio
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from homelab_agent import capabilities, config, places
from homelab_agent.commands import card, findings
from homelab_agent.config import references
from homelab_agent.core import clock, lock
from homelab_agent.core.console import Console
from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.core.health import Check, Finding, Health, State
from homelab_agent.database.settings import EMBEDDED, DatabaseSettings

STACK = "stack"
"""The area of the containers of compose/, which no section of the configuration is about."""
UNIT = "unit"
"""The area of the agent as a service, which no section is about either."""
LITTLE_SPACE_BYTES = 512 * 1024 * 1024


@click.command("doctor")
@click.argument("area", required=False, default="")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
@click.pass_context
def commands(ctx: click.Context, console: Console, area: str, *, as_json: bool) -> None:
    """Check everything now, or one AREA (agent, unit, web, database, stack, a capability); exit 1 if one failed.

    Without a running agent it checks what can be checked from outside; with one, what that does not ask itself.
    """
    settings = console.load()
    ground = {name: getattr(settings, name) for name in ("web", "database", "secrets")}
    sections = {**ground, **dict(settings.enabled())}
    if area and area not in {"agent", UNIT, STACK, *sections}:
        message = f"{area} is none of: {', '.join(['agent', UNIT, *sections, STACK])}"
        raise click.UsageError(message)
    try:
        found = console.client().post("/api/health/probe")["findings"]
    except AgentError as error:
        click.echo(f"{error.message} Checking from outside.", err=True)
        found = _examine(sections, console)
    else:
        found += _examine(sections, console, beside=True)
    if area in {"", UNIT}:
        found += _examine_unit(settings, asked_for=bool(area))
    if area in {"", STACK}:
        found += _examine_stack(settings.database, console, places.host(settings.agent), asked_for=bool(area))
    shown = [finding for finding in found if not area or finding["check"].split(".")[0] == area]
    if as_json:
        console.json(shown)
    else:
        findings.show(shown)
    if any(finding["state"] == State.FAILED for finding in shown):
        ctx.exit(Exit.FAILED)


def _examine(sections: Mapping[str, Any], console: Console, *, beside: bool = False) -> list[dict[str, object]]:
    """Ask the checks that need no agent, or those of them that `beside` one there is something to say about."""
    health, directory, secrets = Health(clock.SystemClock()), console.find_state(), console.secrets()
    given = click.get_current_context().find_root().params.get("config_path")
    health.add([card.check(directory, config.load(given))])
    if not beside:
        health.add(_own_checks(directory))
    for name, section in sections.items():
        if capabilities.has_room(name, "doctor"):
            room = capabilities.import_room(name, "doctor")
            if not beside:
                health.add(room.checks(section, directory, secrets))
            elif hasattr(room, "beside"):
                health.add(room.beside(section, directory, secrets))
    return [standing.as_fields() for standing in asyncio.run(health.probe_all())]


def _examine_unit(settings: config.Settings, *, asked_for: bool) -> list[dict[str, object]]:
    """Ask about the agent's units; that it is no service is said to who has asked for it only."""
    from homelab_agent.commands import privileged
    from homelab_agent.unit import doctor as unit_doctor

    given = click.get_current_context().find_root().params.get("config_path")
    verbs = privileged.Verbs(given, is_roots=False)
    health = Health(clock.SystemClock())
    scheme = "credential:"
    uses = references.uses(settings).items()
    needed = {one.removeprefix(scheme): keys for one, keys in uses if one.startswith(scheme)}
    health.add(unit_doctor.checks(verbs.collect, needed))
    found = [standing.as_fields() for standing in asyncio.run(health.probe_all())]
    return [one for one in found if asked_for or one["state"] != State.NOT_AVAILABLE]


def _examine_stack(
    settings: DatabaseSettings, console: Console, host: str, *, asked_for: bool
) -> list[dict[str, object]]:
    """Ask about the containers of compose/; where there are none, that is said to who has asked for it only."""
    from homelab_agent.database import doctor as database_doctor
    from homelab_agent.stack import doctor as stack_doctor

    async def identify(query: str) -> tuple[str, str]:
        if settings.url == EMBEDDED:  # which only runs while the agent does
            return EMBEDDED, "its own, embedded PostgreSQL"
        return await database_doctor.ask(settings, console.find_state(), console.secrets(), query)

    health = Health(clock.SystemClock())
    health.add(stack_doctor.checks(identify, host, console.find_state(), asked_for=asked_for))
    found = [standing.as_fields() for standing in asyncio.run(health.probe_all())]
    return [one for one in found if asked_for or one["state"] != State.NOT_AVAILABLE]


def _own_checks(directory: Path) -> Sequence[Check]:
    async def python() -> Finding:
        return Finding.ok(f"Python {platform.python_version()} on {platform.machine()}")

    async def state() -> Finding:
        return await asyncio.to_thread(_state_directory, directory)

    return (Check("agent.python", python), Check("agent.state", state))


def _state_directory(directory: Path) -> Finding:
    holder = lock.holder(directory)
    if holder:
        return Finding.failed(f"{directory} is held by {holder}, which does not answer", "homelab-agent status")
    there = next(parent for parent in (directory, *directory.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < LITTLE_SPACE_BYTES:
        return Finding.degraded(f"{there} has {free / 2**20:.0f} MiB left", f"free some space on {there}")
    made = "" if there == directory else ", not made yet"
    return Finding.ok(f"{directory}{made}; {free / 2**30:.1f} GiB free")
