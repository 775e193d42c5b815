"""`homelab-agent gitops add`: from an address to a hook that pings."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from homelab_agent.core import privilege
from homelab_agent.core.client import AgentNotRunning, RemoteProblem
from homelab_agent.core.console import Console
from homelab_agent.core.door import PUBLIC_PATH
from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.gitops import adding
from homelab_agent.gitops.adding import Added, Wish

WAIT_SECONDS = 1800.0
"""How long the forge's ping is waited for: a person fills in a form meanwhile."""

_LOOK_SECONDS = 1.0
_PUBLIC_PORT = 8443
_PLACEHOLDER = "NAME-OF-THIS-NODE"
_RESTART = "systemctl restart homelab-agent"


class AddedBefore(AgentError):
    """The configuration has a repository called {name}, or one in {directory}."""

    repair = "homelab-agent gitops status; for another one: --name NAME"


class NoPing(AgentError):
    """No ping of the forge for {name} was verified within {minutes:.0f} minutes."""

    repair = "homelab-agent gitops hook-test {name}, and see Recent Deliveries of the hook at the forge"
    exit_code = Exit.UNREACHABLE


def add(
    console: Console,
    url: str,
    directory: Path,
    named: Mapping[str, str | None],
    *,
    wait: bool,
    show_secret: bool,
    as_json: bool,
) -> None:
    """Add a repository, and tell what is left to be done; `named` is what the options of these names were given."""
    address = adding.address(url, named["full_name"] or "")
    wish = Wish(
        address,
        directory,
        named["name"] or adding.short_name(address.full_name),
        branch=named["branch"] or "",
        user=named["user"] or "",
        known_hosts=named["known_hosts"] or "",
    )
    settings = console.load()
    for one in settings.gitops.repository if settings.gitops is not None else ():
        if one.name == wish.name or one.directory == directory:
            raise AddedBefore(name=wish.name, directory=directory)
    began = datetime.now(UTC)
    configuration, state = console.find_configuration(), console.find_state()
    place = adding.place_for_secrets(configuration, state)
    reader = privilege.owner(state)
    added = asyncio.run(adding.add(wish, place, reader=reader))
    console.add_entry(configuration, "gitops.repository", added.entry, again=_again(wish))
    form = _form(address.host, added, settings.web.hosts)
    shown = added.secret_file.read_text().strip() if show_secret or (sys.stdout.isatty() and not as_json) else ""
    if as_json:
        told = {**added.entry, "user": added.user, "configuration": configuration, "form": form}
        console.json({**told, "secret_value": shown} if shown else told)
    else:
        _show(added, configuration, form, shown)
    if wait:
        _wait(console, wish.name, began)


def _show(added: Added, configuration: Path, form: Mapping[str, str], secret: str) -> None:
    for line in added.said:
        click.echo(line)
    click.echo(f"wrote {configuration}: [[gitops.repository]] {added.entry['name']}")
    click.echo(f"to have it taken up: {_RESTART} (or end the agent and start it again)\n")
    click.secho(f"At the forge ({form['where']}):", bold=True)
    value = secret or f"what is in {added.secret_file} (--show-secret prints it)"
    for label, text in (
        ("Payload URL", form["payload_url"]),
        ("Content type", form["content_type"]),
        ("Secret", value),
        ("SSL verification", "enabled"),
        ("Events", form["events"]),
    ):
        click.echo(f"  {label.ljust(18)}{text}")
    if _PLACEHOLDER in form["payload_url"]:
        click.echo(f"  ({_PLACEHOLDER} is the name under which the forge reaches this host)")
    click.echo(f"\nto try the hook out: homelab-agent gitops hook-test {added.entry['name']}")


def _form(host: str, added: Added, hosts: Sequence[str]) -> dict[str, str]:
    """Return what belongs into the form of a new webhook at the forge."""
    public = next((one for one in hosts if "." in one), _PLACEHOLDER)
    form = f"https://{host}/{added.entry['full_name']}/settings/hooks"
    return {
        "where": form if host else "settings of the repository, webhooks",
        "payload_url": f"https://{public}:{_PUBLIC_PORT}{PUBLIC_PATH}",
        "content_type": "application/json",
        "events": "just the push event",
    }


def _again(wish: Wish) -> list[str]:
    options = {"name": wish.name, "full-name": wish.address.full_name, "branch": wish.branch, "user": wish.user}
    options["known-hosts"] = wish.known_hosts
    given = [f"--{name}={value}" for name, value in options.items() if value]
    return ["gitops", "add", wish.address.url, str(wish.directory), *given]


def _wait(console: Console, name: str, since: datetime) -> None:
    """Wait until a ping for the repository was verified; the agent may be restarted meanwhile. Raises `NoPing`."""
    click.echo("waiting for the ping of the forge (Ctrl-C ends that, and nothing else)", err=True)
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        for one in _deliveries(console, name):
            if one["event"] == "ping" and datetime.fromisoformat(one["received_at"]) >= since:
                click.echo(f"the ping came, signed with the secret {one['key_name']}: {one['attempts'][-1]['detail']}")
                return
        time.sleep(_LOOK_SECONDS)
    raise NoPing(name=name, minutes=WAIT_SECONDS / 60)


def _deliveries(console: Console, name: str) -> list[dict[str, Any]]:
    """Return the newest deliveries, none while no agent answers that knows of any."""
    try:
        found: list[dict[str, Any]] = console.client().get("/api/gitops/deliveries", repository=name)["deliveries"]
    except (AgentNotRunning, RemoteProblem):
        return []
    return found
