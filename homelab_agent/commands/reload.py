"""`homelab-agent reload`: apply a changed configuration to the running agent."""

from __future__ import annotations

import click

from homelab_agent.core.console import Console


@click.command("reload")
@click.pass_obj
def commands(console: Console) -> None:
    """Apply a changed configuration without a restart.

    An invalid file changes nothing; keys that need a restart are named.
    """
    answer = console.client().post("/api/reload")
    for key in answer["applied"]:
        click.echo(f"applied: {key}")
    for key in answer["needs_restart"]:
        click.echo(f"needs a restart: {key}")
    if not answer["applied"] and not answer["needs_restart"]:
        click.echo("nothing has changed")
