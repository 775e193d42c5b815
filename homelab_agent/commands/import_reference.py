"""`homelab-agent db import-reference`: `database` and `metrics` put together: where rows go, and what they say."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from homelab_agent.core.console import Console, local_time
from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.core.following import plain

if TYPE_CHECKING:
    from homelab_agent.metrics.importing import Asked, Report

_ROWS_SHOWN = 20


class SourceFaulty(AgentError):
    """`--from` is not an address of PostgreSQL, nor a reference to one."""

    repair = "--from postgresql://user@host:5432/database, or file:PATH, env:NAME, credential:NAME, openbao:PATH#KEY"
    exit_code = Exit.USAGE


class Time(click.ParamType[datetime]):
    """A day, or an RFC 3339 time; without an offset, this host's."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the moment."""
        try:
            return datetime.fromisoformat(str(value)).astimezone()
        except (ValueError, OverflowError):
            self.fail(f"{value} is neither a day (2026-11-01) nor a time (2026-11-01T12:00:00Z)", param, ctx)


class Renamed(click.ParamType[tuple[str, str]]):
    """OLD=NEW."""

    name = "name=new"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return both names."""
        old, _, new = str(value).partition("=")
        if not old or not new:
            self.fail(f"{value} is not NAME=NEW", param, ctx)
        return old, new


@click.command("import-reference")
@click.option("--from", "source", metavar="URL", help="Where the table is. [default: the agent's own database]")
@click.option("--table", default="system_metrics", show_default=True, help="Which table; SCHEMA.NAME.")
@click.option("--host", "hosts", multiple=True, type=Renamed(), help="How a host is called here; again for another.")
@click.option("--since", type=Time(), help="Only rows from this day or time on.")
@click.option("--until", type=Time(), help="Only rows from before this day or time.")
@click.option("--again", is_flag=True, help="Read from the beginning; what is there already stays as it is.")
@click.option("--dry-run", is_flag=True, help="Read and count all, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the end as JSON.")
@click.pass_obj
def commands(  # noqa: PLR0913 - click's way to hand over options
    console: Console,
    source: str | None,
    table: str,
    hosts: tuple[tuple[str, str], ...],
    since: datetime | None,
    until: datetime | None,
    *,
    again: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Take over a table `system_metrics` that was written before there was an agent; goes on where it was cut short."""
    from homelab_agent.metrics.importing import Asked

    asked = Asked(since, until, dict(hosts), again=again, dry_run=dry_run)
    try:
        report = asyncio.run(_import(console, source, table, asked, _ignore if as_json else _Bar(table).show))
    except KeyboardInterrupt:
        click.echo("\nStopped; the same command goes on from the last rows that were committed.", err=True)
        raise
    finally:
        if not as_json and sys.stdout.isatty():
            click.echo()
    if as_json:
        console.json(_document(report, asked))
    else:
        _print(console, report, asked)


async def _import(
    console: Console, source: str | None, name: str, asked: Asked, tell: Callable[[Report], None]
) -> Report:
    from homelab_agent.core.clock import SystemClock
    from homelab_agent.database import doctor, pool
    from homelab_agent.database.address import AddressFaulty, Elsewhere
    from homelab_agent.database.history import History
    from homelab_agent.database.rollups.keep import Keep
    from homelab_agent.database.settings import DatabaseSettings
    from homelab_agent.metrics import importing, reference_table

    settings = console.section("database")
    where = await asyncio.to_thread(doctor.find_address, settings, console.find_state(), console.secrets())
    origin = where
    if source is not None:
        try:
            elsewhere = Elsewhere(DatabaseSettings(url=source), console.secrets())
            origin = await asyncio.to_thread(elsewhere.address)
        except (AddressFaulty, ValueError):
            raise SourceFaulty from None
    async with AsyncExitStack() as stack:
        repair = "start it: homelab-agent run, or see [database] url"
        writing = await stack.enter_async_context(pool.single(where, repair=repair))
        reading = await stack.enter_async_context(pool.single(origin, repair="see that --from is right, and start it"))
        with importing.side(importing.TARGET):
            store = await History.open(writing, Keep.of(settings), SystemClock().read().wall)
            await importing.lock(writing)
        with importing.side(importing.SOURCE):
            await reading.transaction(isolation="repeatable_read", readonly=True).start()
            table = await reference_table.find(reading, origin.shown, name, target=writing.get_server_pid())
        return await importing.run(table, store, asked, tell)


class _Bar:
    """Shows how far it is, how fast, and how long it takes still."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._bar: Any = None
        self._read = 0

    def show(self, report: Report) -> None:
        """Draw it anew."""
        if self._bar is None:
            self._bar = click.progressbar(
                length=report.total, label=self._table, item_show_func=self._said, show_pos=True, show_eta=True
            )
            self._bar.render_progress()
        self._bar.update(report.tally.read - self._read, report)
        self._read = report.tally.read

    @staticmethod
    def _said(report: Report | None) -> str:
        return f"rows, {report.tally.read / report.seconds:,.0f} a second" if report and report.seconds else "rows"


def _ignore(_: object) -> None:
    """Show nothing."""


def _document(report: Report, asked: Asked) -> Mapping[str, Any]:
    tally = report.tally
    return {
        "dry_run": asked.dry_run,
        "rows": tally.read,
        "rows_before": report.before,
        "imported": tally.taken,
        "repeated": tally.repeated,
        "not_understood": tally.not_understood + report.untimely,
        "without_a_time": report.untimely,
        "first": tally.first,
        "last": tally.last,
        "position": report.position,
        "seconds": round(report.seconds, 3),
        "metric_types": dict(tally.kinds),
        "hosts": {name: asked.hosts.get(name, name) for name in tally.hosts},
        "families": {
            table.removesuffix("_sample"): dict(zip(("new", "there", "rolled_up"), counts, strict=True))
            for table, counts in sorted(report.puts.items())
        },
        "faults": dict(tally.faults.most_common()),
        "examples": [{"cause": cause, **record._asdict()} for cause, record in tally.examples],
        "no_column": dict(tally.strange.most_common()),
        "joined": list(report.joined),
    }


def _print(console: Console, report: Report, asked: Asked) -> None:
    tally = report.tally
    before = f" ({report.before:,} before)" if report.before else ""
    span = ""
    if tally.first and tally.last:
        span = f", from {local_time(tally.first.isoformat())} to {local_time(tally.last.isoformat())}"
    verb = "would be imported" if asked.dry_run else "imported"
    click.echo(f"{tally.read:,} rows read{before} in {report.seconds:.1f} s, {tally.taken:,} {verb}{span}")
    if tally.repeated:
        click.echo(f"{tally.repeated:,} rows said again what the one before had said")
    named = ", ".join(f"{plain(old)} as {plain(asked.hosts.get(old, old))}" for old in tally.hosts)
    if named:
        click.echo(f"hosts: {named}")
    if tally.kinds:
        click.echo()
        console.table(
            ("metric_type", "rows"), [(plain(kind), count) for kind, count in tally.kinds.most_common(_ROWS_SHOWN)]
        )
    families = [(table.removesuffix("_sample"), *counts) for table, counts in sorted(report.puts.items())]
    if families := [each for each in families if each[0] != "entity"]:
        click.echo()
        console.table(("family", "new", "there already", "into hours and days"), families)
    if report.joined:
        click.echo(f"\n{len(report.joined)} lines go on in the agent's own, by their names")
    _print_faults(console, report)


def _print_faults(console: Console, report: Report) -> None:
    tally = report.tally
    if not_understood := tally.not_understood + report.untimely:
        click.echo(f"\n{not_understood:,} rows were not understood")
    faults = [*tally.faults.most_common(_ROWS_SHOWN)]
    if report.untimely:
        faults.append(("the time is missing, before 2000, or in the future", report.untimely))
    if faults:
        console.table(("times", "what could not be read"), [(count, plain(cause)) for cause, count in faults])
        for cause, record in tally.examples:
            shown = plain(f"{record.time.isoformat()} {record.host} {record.kind}: {record.payload}").replace("\n", " ")
            click.echo(f"  {plain(cause)}\n    {shown}")
    if tally.strange:
        click.echo("\nhas no column here, and is not taken")
        rows = [(count, plain(name)) for name, count in tally.strange.most_common(_ROWS_SHOWN)]
        console.table(("times", "key"), rows)
