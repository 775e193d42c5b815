"""`homelab-agent reading`: how the sync stands, a run, a backfill, the proof, and what was rejected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from homelab_agent.core import following
from homelab_agent.core.console import CapabilityGroup, Console, local_time
from homelab_agent.core.errors import AgentError


class ReadingOff(AgentError):
    """The running agent syncs no reading source."""

    repair = "add a [[reading.source]], then restart the agent"


class NotAllDone(AgentError):
    """Of {total} documents {count} stay as they were."""

    repair = "{repair}"


@click.group("reading", cls=CapabilityGroup, off=ReadingOff)
def commands() -> None:
    """Sync what was read into PostgreSQL: how it stands, a run, the proof, what was rejected."""


@commands.command("status")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def status(console: Console, *, as_json: bool) -> None:
    """Tell how each source's last run ended."""
    sources = console.client().get("/api/reading")["sources"]
    if as_json:
        console.json(sources)
        return
    counts = ("inserted", "duplicate", "marked", "rejected", "backlog")
    rows = (
        (
            one["source"],
            *(
                (last["status"], local_time(last["started_at"]), *(last[name] for name in counts))
                if last
                else ("-",) * 7
            ),
            one["rejected"],
            last["error"] if last else "",
        )
        for one in sources
        for last in [one["last"]]
    )
    head = ("source", "last run", "began", *counts, "rejected in all", "error")
    console.table(head, rows)


@commands.command("sync")
@click.option("--since", help="Take again what the source has from this day or time on.")
@click.option("--until", help="Up to this day or time.")
@click.option("--source", default="", help="One source; else all.")
@click.option("--dry-run", is_flag=True, help="Count what would be done, and do nothing.")
@click.option("--detach", is_flag=True, help="Print the run's id and do not wait.")
@click.pass_obj
def sync(console: Console, *, since: str | None, until: str | None, source: str, dry_run: bool, detach: bool) -> None:
    """Sync now, or fill up a window of the past; Ctrl-C stops following, not the run."""
    asked: dict[str, object] = {"since": since, "until": until, "source": source, "dry_run": dry_run}
    run = console.client().post("/api/sync/reading", {key: value for key, value in asked.items() if value})["run"]
    if detach:
        click.echo(run)
    elif dry_run:
        following.stream(console, run)
    else:
        following.follow(console, run)


@commands.command("verify")
@click.option(
    "--window", default="", help="A day, several (2026-11-01..2026-11-30), or other; else all that was proven."
)
@click.option("--source", default="", help="One source; else all.")
@click.pass_obj
def verify(console: Console, window: str, source: str) -> None:
    """Hold what was taken against the sources once more; exit 1 with the ids that differ."""
    run = console.client().post("/api/reading/verify", {"window": window, "source": source})["run"]
    following.stream(console, run)


@commands.command("rename")
@click.argument("old")
@click.argument("new")
@click.pass_obj
def rename(console: Console, old: str, new: str) -> None:
    """Have all that is known of the source OLD go by NEW, its name in the configuration now."""
    run = console.client().post("/api/reading/rename", {"old": old, "new": new})["run"]
    following.stream(console, run)


@commands.group("rejected")
def rejected() -> None:
    """Documents that could not be stored: which, why, whole; try them again, or want them no more."""


@rejected.command("list")
@click.option("--source", default="", help="One source; else all.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1000), help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def list_rejected(console: Console, source: str, limit: int, *, as_json: bool) -> None:
    """List them, newest first."""
    found = console.client().get("/api/reading/rejected", source=source, limit=limit)["rejected"]
    if as_json:
        console.json(found)
        return
    rows = (
        (
            local_time(one["last_seen"]),
            one["origin"],
            one["key"],
            one["state"],
            one["cause"],
            one["attempts"],
            following.plain(one["detail"])[:100],
        )
        for one in found
    )
    console.table(("last seen", "source", "id", "state", "cause", "attempts", "what is wrong"), rows)


@rejected.command("show")
@click.argument("key", metavar="ID")
@click.option("--source", default="", help="Where several have it.")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def show(console: Console, key: str, source: str, *, as_json: bool) -> None:
    """Show one, whole, as extended JSON."""
    one = console.client().post("/api/reading/rejected/show", {"key": key, "source": source})
    if as_json:
        console.json(one)
        return
    click.echo(f"{one['origin']} {one['key']}: {one['cause']}, {following.plain(one['detail'])}")
    click.echo(
        f"{one['state']}, {one['attempts']} attempts, {local_time(one['first_seen'])} to {local_time(one['last_seen'])}"
    )
    click.echo(following.plain(one["raw"]))


@rejected.command("retry")
@click.argument("keys", metavar="ID...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--source", default="", help="Of one source.")
@click.pass_obj
def retry(console: Console, keys: tuple[str, ...], source: str, *, everything: bool) -> None:
    """Have them tried again, now."""
    told = console.client().post("/api/reading/rejected/retry", _asked(keys, source, everything=everything))
    failed = _tell_outcomes(told["documents"])
    if told["done"]:
        sync = console.client().post("/api/sync/reading", {"source": source} if source else None)
        following.follow(console, sync["run"])
    if failed:
        raise failed


@rejected.command("drop")
@click.argument("keys", metavar="ID...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--source", default="", help="Of one source.")
@click.pass_obj
def drop(console: Console, keys: tuple[str, ...], source: str, *, everything: bool) -> None:
    """Want them no more: what is rejected stays so, and nobody is asked about it again."""
    told = console.client().post("/api/reading/rejected/drop", _asked(keys, source, everything=everything))
    if failed := _tell_outcomes(told["documents"]):
        raise failed


def _tell_outcomes(outcomes: Sequence[Mapping[str, Any]]) -> NotAllDone | None:
    """Tell what became of each document; return the error where that was not for all of them what was wanted."""
    for one in outcomes:
        click.echo(f"{one['source']} {one['key']}: {following.plain(one['detail'])}")
    failed = [one for one in outcomes if not one["done"]]
    return NotAllDone(count=len(failed), total=len(outcomes), repair=failed[0]["repair"]) if failed else None


def _asked(keys: tuple[str, ...], source: str, *, everything: bool) -> dict[str, object]:
    if everything == bool(keys):
        raise click.UsageError("name ids, or give --all")
    return {"all": True, "source": source} if everything else {"keys": list(keys), "source": source}
