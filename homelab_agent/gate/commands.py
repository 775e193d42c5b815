"""`homelab-agent gate`: how the doors stand and why, which openings there were, a hold and its release."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

import click

from homelab_agent.core import errors, privilege
from homelab_agent.core.console import CapabilityGroup, Console, local_time
from homelab_agent.core.period import Duration


class GateOff(errors.AgentError):
    """The running agent keeps no door."""

    repair = "[gate] funnel = true (to the internet) or tailnet = true, then restart the agent"


@click.group("gate", cls=CapabilityGroup, off=GateOff)
def commands() -> None:
    """Keep the doors to the internet and to the tailnet: how they stand, why, and a hold."""


@commands.command("status")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def status(console: Console, *, as_json: bool) -> None:
    """Tell how each door stands."""
    doors = console.client().get("/api/gate")["doors"]
    if as_json:
        console.json(doors)
        return
    rows = ((one["name"], _state(one), local_time(one["since"]), one["address"], one["why"]) for one in doors)
    console.table(("door", "state", "since", "address", "why"), rows)


@commands.command("why")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def why(console: Console, *, as_json: bool) -> None:
    """Explain in words why each door is open or shut, and what would change that."""
    doors = console.client().get("/api/gate")["doors"]
    if as_json:
        console.json(doors)
        return
    for one in doors:
        click.echo(f"{one['name']}: {_state(one)} since {local_time(one['since'])}, because: {one['why']}")
        if one["doubt"]:
            click.echo(f"  it shuts if this stays so: {one['doubt']}")
        if one["repair"]:
            click.echo(f"  repair: {one['repair']}")
        if one["exposure"]:
            click.echo(f"  {_visits(one['exposure'])} since {local_time(one['exposure']['opened_at'])}")
        for warning in one["warnings"]:
            click.echo(f"  soon: {warning['what']}\n    repair: {warning['repair']}")


@commands.command("history")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def history(console: Console, limit: int, *, as_json: bool) -> None:
    """List when the internet was let in, why, until when, and who came."""
    openings = console.client().get("/api/gate/history", limit=limit)["openings"]
    if as_json:
        console.json(openings)
        return
    rows = (
        (
            local_time(one["opened_at"]),
            local_time(one["closed_at"]) or "open",
            f"{one['seconds']:.0f} s",
            one["requests"],
            one["sources"],
            one["closed_why"] or one["opened_why"],
        )
        for one in openings
    )
    console.table(("opened", "shut", "for", "requests", "sources", "why"), rows)


@commands.command("close")
@click.option("--for", "seconds", type=Duration(), help="How long: 45m, 2h, 1d; else until `gate auto`.")
@click.option("--reason", default="", help="Why, in words: whoever looks next wants to know.")
@click.option("--now", is_flag=True, help="Take back what is published, without an agent; nothing is held.")
@click.pass_obj
def close(console: Console, seconds: float | None, reason: str, *, now: bool) -> None:
    """Hold the door to the internet shut, for a time or until `gate auto`."""
    if now:
        _close_now(console)
        return
    if not reason:
        raise click.UsageError("--reason says why, in words")
    asked = {"reason": reason} if seconds is None else {"reason": reason, "seconds": seconds}
    _said(console.client().post("/api/gate/hold", asked))


@commands.command("auto")
@click.pass_obj
def auto(console: Console) -> None:
    """Release the door to the internet: it opens again when all is well."""
    _said(console.client().post("/api/gate/release"))


@commands.command("operator")
@click.argument("user", default="")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def operator(console: Console, user: str, *, yes: bool) -> None:
    """Let USER publish beside root, by default whom the agent runs as: a host has one, whose place is taken."""
    from homelab_agent.gate import appointment  # with aiohttp: not for the other commands
    from homelab_agent.gate.settings import GateSettings
    from homelab_agent.gate.tailscale import Tailscaled

    settings = console.section("gate") or GateSettings()
    daemon = Tailscaled(settings.socket)
    name = privilege.look_up(user or privilege.owner(console.find_state())).name
    now = asyncio.run(daemon.read()).operator
    if name == "root":
        click.echo("root may publish without being the operator")
        return
    if name == now:
        click.echo(f"{name} is Tailscale's operator on this host already")
        return
    instead = f"{now} is it now, and would publish nothing any more" if now else "nobody is it now"
    if not yes and not sys.stdin.isatty():
        raise click.UsageError(f"nobody is there to be asked ({instead}): --yes does it unasked")
    if not yes and not click.confirm(f"Make {name} Tailscale's operator on this host? {instead}"):
        raise click.exceptions.Exit(errors.Exit.FAILED)
    asyncio.run(appointment.appoint(name, settings.program, daemon))
    click.echo(f"{name} is Tailscale's operator on this host")


def _close_now(console: Console) -> None:
    """Take back the door to the internet, whether an agent runs or not."""
    from homelab_agent.gate import closing  # with aiohttp: not for the other commands
    from homelab_agent.gate.child import Command
    from homelab_agent.gate.settings import GateSettings

    settings, port = console.section("gate") or GateSettings(), console.section("web").listen.rpartition(":")[2]
    command = Command(settings.program, settings.socket, "funnel", settings.port, f"http://127.0.0.1:{port}")
    for line in asyncio.run(closing.close_now(command)).words:
        click.echo(line)


def _said(door: Mapping[str, Any]) -> None:
    click.echo(f"{door['name']}: {_state(door)}, because: {door['why']}")


def _state(door: Mapping[str, Any]) -> str:
    return f"{door['phase']} ({door['overlay']})" if door["overlay"] else str(door["phase"])


def _visits(exposure: Mapping[str, Any]) -> str:
    return f"{exposure['requests']} requests from {exposure['sources']} addresses, {exposure['sent_bytes']} bytes sent"
