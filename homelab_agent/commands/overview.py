"""`homelab-agent` alone: what needs the operator, what is off and how to enable it."""

from __future__ import annotations

import click

from homelab_agent.commands import findings
from homelab_agent.core.console import Console
from homelab_agent.core.errors import AgentError


def show(console: Console) -> None:
    """Print what needs the operator now; without an agent, say how to start it."""
    try:
        settings = console.load()
    except AgentError as error:
        console.problem(error.message, error.cause, error.repair)
        return
    try:
        overview = console.client().get("/")
    except AgentError as error:
        click.echo(f"{error.message}\n  repair: {error.repair}")
    else:
        if not findings.show_needs(overview["needs"]):
            click.echo(f"All is well on {overview['host']}. More: homelab-agent status")
    for name, how in settings.off():
        click.echo(f"  {name} is off; {how}")
