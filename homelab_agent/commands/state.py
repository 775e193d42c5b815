"""`homelab-agent state`: the agent's own file state.db, for who keeps copies of it."""

from __future__ import annotations

import sys

import click

from homelab_agent.core import statecopy
from homelab_agent.core.console import Console


@click.group("state")
def commands() -> None:
    """Copy the agent's own state."""


@commands.command()
@click.pass_obj
def dump(console: Console) -> None:
    """Write state.db to standard output as it is at one moment, beside a running agent or without one."""
    if sys.stdout.isatty():
        raise click.UsageError("the copy is no text: homelab-agent state dump > FILE")
    for piece in statecopy.pieces(console.find_state()):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


@commands.command()
@click.pass_obj
def settle(console: Console) -> None:
    """Have all of state.db in the one file, as an agent leaves it that was not killed; none may run."""
    statecopy.settle(console.find_state())
