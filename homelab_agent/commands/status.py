"""`homelab-agent status`: how the running agent stands."""

from __future__ import annotations

from contextlib import suppress

import click

from homelab_agent import config
from homelab_agent.commands import card, findings
from homelab_agent.config import profile
from homelab_agent.core.console import Console, local_time
from homelab_agent.core.errors import Exit


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
@click.pass_context
def commands(ctx: click.Context, console: Console, *, as_json: bool) -> None:
    """Tell how the running agent stands; exit 1 when something failed, 69 when none runs."""
    overview = console.client().get("/")
    if as_json:
        console.json(overview)
    else:
        if not findings.show_needs(overview["needs"]):
            click.echo("All is well.")
        click.echo()
        since = local_time(overview["started_at"])
        click.echo(f"{overview['host']}: homelab-agent {overview['version']} since {since}")
        with suppress(config.ConfigurationFaulty):  # a running agent is told of all the same
            loaded = config.load(ctx.find_root().params.get("config_path"))
            if loaded.settings.agent.profile in profile.PROFILES:
                click.echo(card.summary(loaded))
        findings.show(
            {"check": line["name"], "state": line["state"], "detail": line["summary"]}
            for line in overview["capabilities"]
        )
        upcoming = [(local_time(run["at"]), run["job"]) for run in overview["upcoming"]]
        if upcoming:
            click.echo()
            console.table(("next", "job"), upcoming)
    if overview["state"] == "failed":
        ctx.exit(Exit.FAILED)
