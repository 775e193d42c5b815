"""`homelab-agent restore`: a copy comes back, in place or beside what lives, each file proven; it needs no agent."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import click

from homelab_agent.backup import shown
from homelab_agent.core.console import Console, local_time

if TYPE_CHECKING:
    from homelab_agent.backup.aim import Wish
    from homelab_agent.backup.own_restoring import OwnRestoring
    from homelab_agent.backup.restore import Plan, Restored, Restoring
    from homelab_agent.backup.settings import BackupSettings
    from homelab_agent.backup.undo_note import Undo

_UNDO = "undo"


class _Asked(TypedDict):
    to: str
    engine: str
    archive: str
    at: datetime | None
    globs: tuple[str, ...]
    trust: str
    only_plan: bool
    yes: bool
    as_json: bool


@click.command("restore")
@click.argument("name", metavar="SET|undo")
@click.argument("undo_id", metavar="[UNDO]", default="")
@click.option(
    "--to", default="", metavar="DIRECTORY|NAME", help="An empty or new directory (with a slash), or a project's name."
)
@click.option("--engine", default="archive", show_default=True, help="Where the copy is: archive, or a repository.")
@click.option("--archive", default="", help="Which copy, by its id; else the newest.")
@click.option("--at", type=click.DateTime(), help="The newest copy until then, local time.")
@click.option("--path", "globs", multiple=True, metavar="GLOB", help="These members only, as 'volumes/NAME/*'.")
@click.option("--trust", default="", metavar="SHA256", help="Take a copy that this host has not written itself.")
@click.option("--plan", "only_plan", is_flag=True, help="Say what would change, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="For a program; a restore in place then needs --yes or --plan.")
@click.pass_obj
def commands(console: Console, *, name: str, undo_id: str, **asked: Unpack[_Asked]) -> None:
    """Restore a copy of SET where it was, or elsewhere; `restore undo [UNDO]` lists what is kept, or puts it back.

    Its containers are stopped while files change places, and started again; what is replaced is kept for some days.
    """
    from homelab_agent.backup.settings import BackupSettings  # with the engines: not for the other commands

    settings: BackupSettings = console.section("backup") or BackupSettings()
    if undo_id and name != _UNDO:
        raise click.UsageError(f"did you mean: homelab-agent restore undo {undo_id}")
    if name == _UNDO:
        _undo(console, settings, undo_id, as_json=asked["as_json"])
    elif asked["to"]:
        _beside(console, settings, name, asked["to"], asked)
    elif asked["as_json"] and not (asked["yes"] or asked["only_plan"]):
        raise click.UsageError("who reads --json is not asked: add --yes or --plan")
    else:
        asyncio.run(_in_place(console, settings, name, asked))


def _undo(console: Console, settings: BackupSettings, undo_id: str, *, as_json: bool) -> None:
    from homelab_agent.backup.undo import Undos

    noted = Undos(settings.records)
    if undo_id:
        _say(console, asyncio.run(_undone(console, settings, noted.set_of(undo_id), undo_id)), as_json=as_json)
        return
    undos = noted.list()
    for one in noted.damaged():
        console.problem(one.message, one.cause, one.repair)
    keep = timedelta(days=settings.undo_days)
    if as_json:
        console.json([_undo_fields(one, keep) for one in undos])
        return
    console.table(("undo", "set", "restored", "kept until", "from", "where"), (_undo_row(one, keep) for one in undos))


def _undo_row(undo: Undo, keep: timedelta) -> tuple[str, ...]:
    until = _local(undo.at + keep)
    return undo.id, undo.set_name, _local(undo.at), until, undo.archive, ", ".join(undo.where)


def _local(at: datetime) -> str:
    return local_time(at.isoformat())


async def _undone(console: Console, settings: BackupSettings, name: str, undo_id: str) -> Restored:
    async with _replacing(console, settings, name) as work:
        return await work.undo(undo_id)


def _replacing(
    console: Console, settings: BackupSettings, name: str, engine: str = ""
) -> AbstractAsyncContextManager[Restoring | OwnRestoring]:
    """Return what restores a set in place: the agent's own is another matter than what containers keep."""
    from homelab_agent.backup import own_restoring, restoring
    from homelab_agent.backup.settings import AGENT_SET, ARCHIVE

    if name == AGENT_SET:
        return own_restoring.replacing(settings, console.whereabouts(), engine or ARCHIVE, console.secrets())
    return restoring.replacing(settings, engine or ARCHIVE, console.secrets())


def _beside(console: Console, settings: BackupSettings, name: str, to: str, asked: _Asked) -> None:
    """Restore to a directory, which has a slash in its name, or to volumes of a project, which has none."""
    from homelab_agent.backup import project
    from homelab_agent.backup.settings import AGENT_SET

    if asked["only_plan"]:
        raise click.UsageError("--plan is for a restore in place: with --to nothing changes that is there")
    if "/" in to:
        _to_directory(console, settings, _wish(name, asked), Path(to).absolute(), asked)
    elif name == AGENT_SET:
        raise click.UsageError(f"{name} is no project; a directory has a slash in it: --to ./{to}")
    elif not project.NAME.fullmatch(to):
        raise click.UsageError(f"{to} is no project's name, and a directory has a slash in it: --to ./{to}")
    else:
        _to_project(console, settings, _wish(name, asked), to, asked)


def _to_directory(console: Console, settings: BackupSettings, wish: Wish, place: Path, asked: _Asked) -> None:
    from homelab_agent.backup import restoring

    secrets = console.secrets()
    with shown.shown(silent=asked["as_json"]) as say:
        done = asyncio.run(restoring.restore(settings, wish, asked["engine"], place, secrets, say=say))
    if asked["as_json"]:
        console.json({"archive": done.id, "files": done.files, "bytes": done.bytes, "into": place})
    else:
        click.echo(f"{done.id}: {done.files} members, all as they were written, are in {place}")


def _to_project(console: Console, settings: BackupSettings, wish: Wish, to: str, asked: _Asked) -> None:
    from homelab_agent.backup import restoring

    secrets = console.secrets()
    with shown.shown(silent=asked["as_json"]) as say:
        made = asyncio.run(restoring.make(settings, wish, asked["engine"], to, secrets, say=say))
    if asked["as_json"]:
        console.json(asdict(made))
        return
    click.echo(f"{made.archive}: every hash was right; made the volumes {', '.join(made.volumes.values())}")
    if made.directory is not None:
        click.echo(f"  what is no volume is in {made.directory}")
    for note in made.notes:
        click.echo(f"  {note}")
    click.echo(f"to start it, where its compose file is: docker compose --project-name {made.project} up -d")


def _wish(name: str, asked: _Asked) -> Wish:
    from homelab_agent.backup.aim import Wish

    at = asked["at"].astimezone() if asked["at"] else None
    return Wish(name, asked["archive"], at, asked["globs"], asked["trust"])


async def _in_place(console: Console, settings: BackupSettings, name: str, asked: _Asked) -> None:
    as_json, wish = asked["as_json"], _wish(name, asked)
    async with _replacing(console, settings, name, asked["engine"]) as work:
        if not asked["yes"] or asked["only_plan"]:
            plan = await work.plan(wish)
            if as_json:
                console.json(_plan_fields(plan))
            else:
                _tell(plan)
            if asked["only_plan"] or not await asyncio.to_thread(click.confirm, "Restore it?"):
                return
            wish = _the_same(wish, plan)
        with shown.shown(silent=as_json) as say:
            restored = await work.restore(wish, say)
        _say(console, restored, as_json=as_json)


def _the_same(wish: Wish, plan: Plan) -> Wish:
    """Return the wish for the very copy that was told of: a newer one may have come meanwhile."""
    return replace(wish, archive=plan.archive.id)


def _tell(plan: Plan) -> None:
    click.secho(f"{plan.archive.id}, of {_local(plan.archive.at)} ({plan.archive.verdict})", bold=True)
    for change in plan.changes:
        click.echo(f"  {change}")
        if change.newest is not None:
            newest = _local(change.newest)
            click.echo(f"    replaces {change.lost_bytes} bytes, the newest of them written {newest}")
    for load in plan.loads:
        click.echo(f"  loads {load}")
    if plan.makes:
        click.echo(f"  makes the volumes that are gone: {', '.join(plan.makes)}")
    for note in plan.notes:
        click.echo(f"  {note}")
    click.echo(f"  stops meanwhile: {', '.join(plan.stops) or 'nobody'}")


def _say(console: Console, restored: Restored, *, as_json: bool) -> None:
    if as_json:
        console.json(asdict(restored))
        return
    click.echo(f"{restored.archive}: every hash was right, and it is in place: {', '.join(restored.where)}")
    if restored.made:
        click.echo(f"  made the volumes {', '.join(restored.made)}")
    for note in restored.notes:
        click.echo(f"  {note}")
    click.echo(f"to take it back: homelab-agent restore undo {restored.undo}")


def _plan_fields(plan: Plan) -> dict[str, Any]:
    changes = [{**asdict(one), "member": one.place.member, "place": one.place.path} for one in plan.changes]
    archive = plan.archive
    return {
        "archive": archive.id,
        "at": archive.at.isoformat(),
        "verdict": archive.verdict,
        "changes": changes,
        "stops": plan.stops,
        "makes": plan.makes,
        "loads": plan.loads,
        "notes": plan.notes,
    }


def _undo_fields(undo: Undo, keep: timedelta) -> dict[str, Any]:
    return {
        "undo": undo.id,
        "set": undo.set_name,
        "at": undo.at.isoformat(),
        "until": (undo.at + keep).isoformat(),
        "archive": undo.archive,
        "step": undo.step,
        "places": undo.places,
        "databases": undo.databases,
    }
