"""`homelab-agent completion`: what a shell needs to complete commands and options (click's own completion)."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

VARIABLE = "_HOMELAB_AGENT_COMPLETE"
"""By which the shell asks the program; click derives it from the program's name."""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def commands(ctx: click.Context, shell: str) -> None:
    """Print what SHELL needs to complete commands and options.

    `make install` puts it where the shell looks. Without that, in ~/.bashrc: source <(homelab-agent completion bash)
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click knows all three
    completion = kind(ctx.find_root().command, {}, "homelab-agent", VARIABLE)
    # Not its `source`, which runs a bash to see how old that is.
    click.echo(completion.source_template % completion.source_vars())
