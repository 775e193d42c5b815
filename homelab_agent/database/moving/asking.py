"""`homelab-agent db move`, on the side of who asks: starts the runs, follows them, writes what the agent may not."""

from __future__ import annotations

import click

from homelab_agent.core import following
from homelab_agent.core.console import Console
from homelab_agent.core.errors import AgentError
from homelab_agent.database.moving.order import TO_BE_WRITTEN, Order


def move(console: Console, to: str, password: str, *, plan: bool, yes: bool, detach: bool) -> None:
    """Move, with a question before the change over unless `yes`; raises what `following.follow` raises."""
    if plan:
        following.stream(console, _start(console, to, password, plan=True))
        return
    run = _start(console, to, password, switch=yes)
    if detach:
        click.echo(run)
        return
    _follow(console, run, Order(to, password))
    if not yes:
        click.confirm("Have the agent use the new database now?", abort=True)
        _follow(console, _start(console, to, password, switch=True), Order(to, password))


def _start(console: Console, to: str, password: str, **wanted: bool) -> str:
    return str(console.client().post("/api/database/move", {"to": to, "password": password, **wanted})["run"])


def _follow(console: Console, run: str, order: Order) -> None:
    def say(line: str) -> None:
        following.print_above(line)
        if line == TO_BE_WRITTEN:
            _write(console, order)

    following.follow(console, run, say)


def _write(console: Console, order: Order) -> None:
    """Write what the agent may not; where we may not either, tell what is to be written, and by which command."""
    again = ["db", "move", "--to", order.to, *(["--password", order.password] if order.password else []), "--yes"]
    try:
        console.set_values(console.find_configuration(), order.values, again=again)
    except AgentError as error:
        console.problem(error.message, error.cause, error.repair)
