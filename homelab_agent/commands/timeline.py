"""`homelab-agent timeline`: what happened, in one list, with and without an agent, with and without PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from homelab_agent import capabilities, places
from homelab_agent.core import lock, timeline
from homelab_agent.core.console import Console, local_time
from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.core.period import Moment
from homelab_agent.core.timeline import Entry, Facts, Part, Standing, Table, Window, checks, kept, runs

ROOMS = ("secrets", *capabilities.NAMES)
ROOM = "timeline"
_COLOURS = {Standing.FAILED: "red", Standing.UNDER_WAY: "yellow"}


class NothingToRead(AgentError):
    """Neither PostgreSQL nor the agent's state can be read."""

    repair = "{repair}"
    exit_code = Exit.UNREACHABLE


@dataclass(slots=True)
class Found:
    """What was read, from where, and what therefore may be missing, in words."""

    facts: Facts = field(default_factory=Facts)
    sources: list[str] = field(default_factory=list)
    lacks: list[str] = field(default_factory=list)


@click.command("timeline")
@click.option("--since", type=Moment(), default="1h", show_default=True, help="A length of time, or a day or a time.")
@click.option("--until", type=Moment(), help="Up to then; a time without a zone is this host's.")
@click.option("--host", default="", help="One host of those that share the database; else all.")
@click.option("--json", "as_json", is_flag=True, help="For a program; times in UTC.")
@click.pass_obj
def commands(console: Console, *, since: datetime, until: datetime | None, host: str, as_json: bool) -> None:
    """Tell what happened: deployments, doors, backups, syncs, secrets, restarts, silences, what failed; in one list.

    What was a cause stands before what it led to.
    """
    check_window(since, until)
    window = Window(since, until, host)
    parts = _parts()
    found = _read(console, parts, window)
    told = (entry for part in parts.values() for entry in part.tell(found.facts))
    entries = timeline.ordered(entry for entry in told if window.has(entry))
    own = places.host(console.section("agent"))
    if any(entry.host != own for entry in entries):
        found.lacks.append("What other hosts have under way, or have not shipped yet, is not in it.")
    if as_json:
        console.json(_document(entries, window, found))
    else:
        _show(entries, window, found)


def check_window(since: datetime, until: datetime | None) -> None:
    """Raise `UsageError` for a window in which nothing can be."""
    if since > (now := datetime.now(UTC)):
        began, here = local_time(since.isoformat()), local_time(now.isoformat())
        raise click.UsageError(f"--since {began} is still to come; here it is {here}")
    if until is not None and until <= since:
        raise click.UsageError("--until is after --since")


def _parts() -> Mapping[str, Part]:
    """Return what each room contributes, whether it is on or not: it may have been."""
    rooms = {name: capabilities.import_room(name, ROOM).PART for name in ROOMS if capabilities.has_room(name, ROOM)}
    return {"runs": runs.PART, "checks": checks.PART, **rooms}


def _read(console: Console, parts: Mapping[str, Part], window: Window) -> Found:
    """Read all sources. What is on its way from the one to the other is in one of them: PostgreSQL comes last."""
    found = Found()
    tables = [table for part in parts.values() for table in part.tables]
    _read_notes(console, parts, window, found)
    troubles = [_read_state(console, tables, window, found), _read_database(console, tables, window, found)]
    if all(troubles):
        ways = [f"{one.message} {one.cause}".strip() for one in troubles if one is not None]
        repair = "; ".join(one.repair for one in troubles if one is not None)
        raise NothingToRead(cause=" ".join(ways), repair=repair)
    return found


def _read_notes(console: Console, parts: Mapping[str, Part], window: Window, found: Found) -> None:
    """Take what is in files of this host beside state.db."""
    host = places.host(console.section("agent"))
    for name, part in parts.items():
        if part.noted is None:
            continue
        try:
            rows = [{"host": host, **row} for row in part.noted.read(console.section(name))]
        except OSError as error:
            what = part.noted.table.what
            found.lacks.append(f"The {what} of this host are not in it ({error.strerror}): sudo homelab-agent timeline")
        else:
            found.facts.add(part.noted.table, (row for row in rows if part.noted.table.meets(row, window)))


def _read_state(console: Console, tables: Sequence[Table], window: Window, found: Found) -> AgentError | None:
    directory = console.find_state()
    try:
        damaged = kept.read(directory, places.host(console.section("agent")), tables, window, found.facts)
    except AgentError as error:
        found.lacks.append(f"{_said(error)} What is under way, or waits for PostgreSQL, is not in it.")
        return error
    found.sources.append(f"{directory / 'state.db'} (this host)")
    if damaged:
        found.lacks.append(f"{damaged} parcels of rows that wait for PostgreSQL cannot be read.")
    return None


def _read_database(console: Console, tables: Sequence[Table], window: Window, found: Found) -> AgentError | None:
    from homelab_agent.database import doctor  # with asyncpg: not for --help
    from homelab_agent.database import timeline as database

    settings, directory = console.section("database"), console.find_state()
    lost = ", ".join(table.what for table in tables if not (table.kept and table.is_whole))
    try:
        where = doctor.find_address(settings, directory, console.secrets())
        rows = asyncio.run(database.read(where, tables, window))
    except AgentError as error:
        found.lacks.append(_said(error))
        found.lacks.append(
            "So no other host is in it, nor of this one what its agent holds in memory, for a minute at most, nor what"
            f" PostgreSQL has taken already of: {lost}."
        )
        return error
    found.sources.append(f"PostgreSQL, {where.shown} (all hosts)")
    for table in tables:
        found.facts.add(table, rows.get(table.name, ()))
    late = timedelta(seconds=settings.ship_every)
    if lock.holder(directory) and (window.until is None or window.until > datetime.now(UTC) - late):
        found.lacks.append(f"Of this host the last {settings.ship_every:g} s may not be in it yet of: {lost}.")
    return None


def _said(error: AgentError) -> str:
    cause = f" ({error.cause})" if error.cause else ""
    return f"{error.message.rstrip('.')}{cause}: {error.repair}."


def _show(entries: Sequence[Entry], window: Window, found: Found) -> None:
    several = len({entry.host for entry in entries}) > 1
    widths = [max((len(word(entry)) for entry in entries), default=0) for word in (_kind, _host)]
    for entry in entries:
        host = f"{entry.host.ljust(widths[1])}  " if several else ""
        more = f"  [{timeline.brief(entry.ask.removeprefix('homelab-agent '))}]" if entry.ask else ""
        text = click.style(f"{entry.text}{_took(entry)}", fg=_COLOURS.get(entry.standing))
        click.echo(f"{local_time(entry.at.isoformat())}  {host}{entry.kind.ljust(widths[0])}  {text}{more}")
    since = local_time(window.since.isoformat())
    until = f" until {local_time(window.until.isoformat())}" if window.until else ""
    count = f"{len(entries)} entries" if entries else "Nothing happened"
    click.echo(f"{count} since {since}{until}; read from {' and '.join(found.sources)}.", err=True)
    if any(entry.ask for entry in entries):
        click.echo("More of one: homelab-agent and what is in its brackets.", err=True)
    for lack in found.lacks:
        click.echo(lack, err=True)


def _kind(entry: Entry) -> str:
    return entry.kind


def _host(entry: Entry) -> str:
    return entry.host


def _took(entry: Entry) -> str:
    seconds = (entry.until - entry.at).total_seconds() if entry.until else 0.0
    return f" ({seconds:.1f} s)" if seconds > 0 else ""


def _document(entries: Sequence[Entry], window: Window, found: Found) -> Mapping[str, Any]:
    causes = timeline.causes(entries)
    return {
        "since": _stamp(window.since),
        "until": _stamp(window.until),
        "read_from": found.sources,
        "lacks": found.lacks,
        "entries": [
            {
                "name": entry.name,
                "at": _stamp(entry.at),
                "ended_at": _stamp(entry.until),
                "host": entry.host,
                "kind": entry.kind,
                "standing": entry.standing,
                "text": entry.text,
                "id": entry.id,
                "causes": causes[entry.name],
                "ask": entry.ask,
            }
            for entry in entries
        ],
    }


def _stamp(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")
