"""`homelab-agent secrets`: OpenBao for the agent's secrets."""

from __future__ import annotations

from pathlib import Path

import click

from homelab_agent.core.console import Console


@click.group("secrets")
def commands() -> None:
    """OpenBao for the agent's secrets."""


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
