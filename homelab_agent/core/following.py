"""What follows a run on a terminal: its progress in place, or what it says line by line; for `jobs` and the rooms."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias, cast
from urllib.parse import quote

import click

from homelab_agent.core.client import AgentNotRunning
from homelab_agent.core.console import Console
from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.core.http import Event

_STEPS = 1000

RunFields: TypeAlias = Mapping[str, Any]
"""A `RunRecord` as the agent tells it in JSON."""


class RunFailed(AgentError):
    """{job} ended as {state}."""

    repair = "{repair}"


class RunLostSight(AgentError):
    """The agent stopped before the run {run} of {job} ended."""

    repair = "homelab-agent jobs follow {run}  (once it runs again)"
    exit_code = Exit.UNREACHABLE


def follow(console: Console, run_id: str, say: Callable[[str], None] = lambda _: None) -> None:
    """Show how far a run is until it has ended, then how it ended; `say` is given each line that it prints.

    Raises `RunFailed` if it did not end well, `RunLostSight` if the agent went away meanwhile, and what
    `Client.events` raises.
    """
    with click.progressbar(length=_STEPS, show_eta=False, label=run_id[:8]) as bar:

        def draw(run: RunFields) -> None:
            bar.label = f"{run['job']}: {_note(run)}"
            progress = run["progress"] or {}
            if run["ended_at"]:
                bar.update(_STEPS - bar.pos)
            elif progress.get("total"):
                bar.update(int(_STEPS * min(1.0, progress["done"] / progress["total"])) - bar.pos)
            else:
                bar.render_progress()

        last = _watch(console, run_id, draw, say)
    _conclude(run_id, last)


def print_above(line: str) -> None:
    """Print a line of a run's output above the bar of `follow`, which is drawn again below it."""
    over_the_bar, rest = ("\r", "\x1b[K") if sys.stdout.isatty() else ("", "")
    click.echo(f"{over_the_bar}  {plain(line)}{rest}")


def stream(console: Console, run_id: str) -> None:
    """Print each line of a run's output as it comes, then how it ended; raises as `follow` does."""
    waits_for = ""

    def tell(run: RunFields) -> None:
        nonlocal waits_for
        if run["waits_for"] and run["waits_for"] != waits_for:
            waits_for = run["waits_for"]
            click.echo(f"  waits for {waits_for}")

    _conclude(run_id, _watch(console, run_id, tell, lambda line: click.echo(f"  {plain(line)}")))


def result(console: Console, run_id: str) -> None:
    """Print a run's record as JSON once it has ended; raises as `follow` does, after that if it did not end well."""
    last = _ended(run_id, _watch(console, run_id, _ignore))
    console.json(last)
    _expect_good(last)


def took(run: RunFields, before: str = "") -> str:
    """Return how long a run took or has taken so far, after the words `before`; "" while it has not begun."""
    if not run["started_at"]:
        return ""
    start = datetime.fromisoformat(run["started_at"])
    end = datetime.fromisoformat(run["ended_at"]) if run["ended_at"] else datetime.now(UTC)
    return f"{before}{(end - start).total_seconds():.1f} s"


def _ignore(_: object) -> None:
    """Show nothing."""


def _watch(
    console: Console, run_id: str, show: Callable[[RunFields], None], say: Callable[[str], None] = _ignore
) -> RunFields:
    """Show each record of a run, and say each line of its output, until it has ended.

    Returns the last record, nothing if there was none.
    """
    last: RunFields = {}
    for event in _events(console, run_id):
        match event.name, event.data:
            case "output", {"lines": lines}:
                for line in lines:
                    say(line)
            case "run", record:
                last = cast("RunFields", record)
                show(last)
                if last["ended_at"]:
                    break
            case _:
                continue
    return last


def _ended(run_id: str, last: RunFields) -> RunFields:
    """Return the record with which a run was lost sight of if it has ended, else raise `RunLostSight`."""
    if not last or not last["ended_at"]:
        raise RunLostSight(run=run_id, job=last.get("job", "its job"))
    return last


def _expect_good(last: RunFields) -> None:
    if last["state"] != "ok":
        raise RunFailed(job=last["job"], state=last["state"], repair=last["repair"], cause=plain(last["detail"]))


def _conclude(run_id: str, last: RunFields) -> None:
    _ended(run_id, last)
    said = plain(last["detail"]) or "nothing to say"
    click.echo(f"{last['job']}: {last['state']}, {said}{took(last, ' in ')}")
    _expect_good(last)


def _events(console: Console, run_id: str) -> Iterator[Event]:
    """Yield a run's events. Cut off, as who is slow to read them is, we ask for the rest.

    That the agent goes away meanwhile is the end of them.
    """
    path, seen = f"/api/runs/{quote(run_id, safe='')}/events", ""
    while True:
        before = seen
        try:
            for event in console.client().events(path, after=seen):
                seen = event.id
                yield event
        except AgentNotRunning:
            if not seen:
                raise
        if seen == before:  # what is cut may look as if it had come to its end: only that nothing more comes is one
            return


def plain(text: str) -> str:
    """Return what somebody printed without what paints, and with a mark for what else would move a cursor."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "?" for sign in click.unstyle(text))


def _note(run: RunFields) -> str:
    if run["waits_for"]:
        return f"waits for {run['waits_for']}"
    progress = run["progress"]
    if not progress:
        return str(run["state"])
    total = f"/{progress['total']:g}" if progress["total"] else ""
    return f"{progress['done']:g}{total} {progress['unit']} {progress['note']}".strip()
