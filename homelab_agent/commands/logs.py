"""`homelab-agent logs`: the agent's events from the journal, readable as on a terminal."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import click

from homelab_agent.commands.timeline import check_window
from homelab_agent.core.console import Console, local_time
from homelab_agent.core.errors import AgentError
from homelab_agent.core.journal import entries, journalctl, meaning, outlet
from homelab_agent.core.journal import line as journal_line
from homelab_agent.core.journal.entries import Wanted
from homelab_agent.core.journal.meaning import Meaning
from homelab_agent.core.period import Moment, ago
from homelab_agent.core.settings import Level

DEFAULT = "1h"
_PACKAGE = Path(__file__).parents[1]

Show: TypeAlias = Callable[[dict[str, Any]], None]


class NoSuchRun(AgentError):
    """The journal has no event of a run {run}."""

    repair = "homelab-agent jobs history"


@click.command("logs")
@click.option("--component", default="", help="Of one part: agent, gitops, gate, ...")
@click.option("--run", "run_id", default="", help="Of one run of a job, by its id; then from the beginning.")
@click.option("--event", default="", help="Events of that name, as gate.opened or 'gitops.*'.")
@click.option(
    "--since", type=Moment(), help=f"A length of time, or a day or a time; {DEFAULT} where there is no --run."
)
@click.option("--until", type=Moment(), help="Up to then; a time without a zone is this host's.")
@click.option("--level", type=click.Choice([*(level.value for level in Level), "critical"]), help="At least so severe.")
@click.option("--follow", is_flag=True, help="Go on with each event as it comes, until Ctrl-C.")
@click.option("--explain", "-x", is_flag=True, help="Below the first of each kind: what it means, and what to run.")
@click.option("--json", "as_json", is_flag=True, help="For a program: an event a line, times in UTC.")
@click.pass_obj
def commands(  # noqa: PLR0913 - one for each option
    console: Console,
    *,
    component: str,
    run_id: str,
    event: str,
    since: datetime | None,
    until: datetime | None,
    level: str | None,
    follow: bool,
    explain: bool,
    as_json: bool,
) -> None:
    """Show the agent's events from the journal, oldest first, both halves'; and what systemd says of their units."""
    if follow and until is not None:
        raise click.UsageError("--follow goes on, and has no --until")
    if explain and as_json:
        raise click.UsageError("--explain is for a person, --json for a program")
    since = since or (None if run_id else ago(DEFAULT, datetime.now(UTC)))
    if since is not None:
        check_window(since, until)
    elsewhere = _elsewhere(console)
    where = elsewhere or outlet.BY_HAND
    journalctl.check_there(where)
    show = _as_json if as_json else Readable(meaning.read(_PACKAGE) if explain else {})
    seen = Seen(Wanted(component, run_id, event, level or ""), show)
    complaint = ""
    try:
        words = journalctl.arguments(since, until, follow=follow)
        complaint = asyncio.run(journalctl.read(words, seen.take, where))
    finally:
        _remark(since, elsewhere)
    if complaint and not seen.count:
        raise journalctl.closed(complaint)
    if complaint:
        click.echo("Only your own part of the journal was read; all of it: sudo homelab-agent logs", err=True)
    if run_id and not seen.count:
        raise NoSuchRun(run=run_id)
    if not seen.count:
        click.echo(f"The journal has no such event since {local_time(since.isoformat() if since else None)}.", err=True)


def _elsewhere(console: Console) -> str:
    try:
        return outlet.running(console.find_state())
    except AgentError:  # a faulty configuration keeps nobody from reading what the agent says of it
        return ""


class Seen:
    """Takes the journal's lines, shows what is wanted and counts it."""

    def __init__(self, wanted: Wanted, show: Show) -> None:
        self.count = 0
        self._wanted = wanted
        self._show = show

    def take(self, line: str) -> None:
        """Show a line if it is wanted."""
        event = entries.event(line)
        if event is not None and self._wanted.has(event):
            self.count += 1
            self._show(event)


class Readable:
    """Prints events for a person; a day that is not today is named before its first one.

    What is in `meanings` is explained below the first event of its kind.
    """

    def __init__(self, meanings: Mapping[str, Meaning]) -> None:
        self._meanings = dict(meanings)
        self._colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._day = datetime.now().astimezone().date()

    def __call__(self, event: dict[str, Any]) -> None:
        """Print one."""
        day = entries.at(event).astimezone().date()
        if day != self._day:
            click.echo(f"--- {day}")
            self._day = day
        click.echo(journal_line.as_text(event, colours=self._colours))
        if explained := self._meanings.pop(event["event"], None):
            for line in ("", explained.subject, *explained.lines(event.get("run_id", "")), ""):
                click.echo(f"    {line}".rstrip())


def _as_json(event: dict[str, Any]) -> None:
    click.echo(json.dumps(event))


def _remark(since: datetime | None, elsewhere: str) -> None:
    """Say what is not in the journal."""
    if elsewhere:
        click.echo(f"Not in the journal: {elsewhere}", err=True)
    booted = datetime.fromtimestamp(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME), UTC)
    if journalctl.is_volatile() and (since is None or since < booted):
        said = (
            f"The journal is in memory only, and is lost with each boot, the last at {local_time(booted.isoformat())}"
        )
        click.echo(f"{said}: {journalctl.KEEP}", err=True)
