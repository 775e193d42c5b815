"""`homelab-agent catalogue`: what `journalctl -x` shows of the agent's events, for `journalctl --update-catalog`."""

from __future__ import annotations

from pathlib import Path

import click

from homelab_agent.core.journal import meaning


@click.command("catalogue")
def commands() -> None:
    """Print the journal's catalogue of all events (deploy/systemd/homelab-agent.catalog)."""
    click.echo(meaning.catalogue(meaning.read(Path(__file__).parents[1])), nl=False)
