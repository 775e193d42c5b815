"""`homelab-agent secrets`: which there are, and OpenBao for them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from homelab_agent.core.console import Console


@click.group("secrets")
def commands() -> None:
    """List the agent's secrets; have OpenBao for them."""


@commands.command("list")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def listed(console: Console, *, as_json: bool) -> None:
    """Tell where each secret comes from, its version, how old it is and what it is for; never what it is."""
    found = console.client().get("/api/secrets")
    if as_json:
        console.json(found)
        return
    if not found["secrets"]:
        click.echo("The configuration names no secret.")
        return
    rows = (
        (one["reference"], one["source"], one["version"] or "-", _age(one["read_at"]), ", ".join(one["used_by"]))
        for one in found["secrets"]
    )
    console.table(("reference", "source", "version", "age", "used by"), rows)


@commands.command("bootstrap")
@click.option("--bao", type=click.Path(path_type=Path, dir_okay=False), help="The program, where PATH has none.")
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), help="Where all of it goes, unit-less.")
@click.option("--port", type=click.IntRange(1024, 65534), default=8200, show_default=True, help="And the one after it.")
@click.option("--plan", is_flag=True, help="Say what is there and what would be made; change nothing.")
@click.pass_obj
def bootstrap(console: Console, bao: Path | None, directory: Path | None, port: int, *, plan: bool) -> None:
    """From the program `bao` to a server that serves, unsealed, and an agent that may read there.

    What is there is left as it is: given again, it goes on where it was cut short. As root where systemd runs, OpenBao
    becomes a unit; else all of it goes below one directory, and the command that starts it is printed.
    """
    from homelab_agent.secrets import bootstrap_command

    bootstrap_command.bootstrap(console, bao, directory, port, plan=plan)


def _age(read_at: str | None) -> str:
    """Return how long ago the agent read it."""
    if not read_at:
        return "-"
    return f"{(datetime.now(UTC) - datetime.fromisoformat(read_at)).total_seconds():.0f} s"
