"""`homelab-agent backup`: what is backed up, runs, proofs, what is kept; `restore` is a command of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from homelab_agent.backup import shown
from homelab_agent.core import following
from homelab_agent.core.console import CapabilityGroup, Console, local_time
from homelab_agent.core.errors import AgentError

if TYPE_CHECKING:
    from homelab_agent.backup.settings import BackupSettings


class BackupOff(AgentError):
    """The running agent backs nothing up."""

    repair = "homelab-agent backup plan, then: homelab-agent backup plan --accept NAME"


@click.group("backup", cls=CapabilityGroup, off=BackupOff)
def commands() -> None:
    """Back up what containers keep, and prove that it can be restored."""


@commands.command("status")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def status(console: Console, *, as_json: bool) -> None:
    """Tell of each set how old its newest copy is, and when one was last proven."""
    found = console.client().get("/api/backup")
    sets, facts = found["sets"], found["facts"]
    if as_json:
        console.json(sets)
        return
    rows = (
        (
            one["set"],
            local_time(one["newest_at"]) or "never",
            one["verdict"] or "-",
            shown.size(one["stored_bytes"]),
            local_time(one["verified_at"]) or "never",
            _proven(one),
            "yes" if one["offsite"] else "no",
            ", ".join(f"{name} {ms} ms" for name, ms in one["frozen_ms"].items()) or "-",
            following.plain(one["trouble"]),
        )
        for one in sets
    )
    head = (
        "set",
        "newest copy",
        "kind",
        "size",
        "read back",
        "proven restorable",
        "off-site",
        "stood still",
        "trouble",
    )
    console.table(head, rows)
    away = "yes" if facts["offsite"] else "no"
    click.echo(f"{facts['done_24h']} of {facts['sets']} sets backed up in the last 24 hours; all off-site: {away}")


@commands.command("plan")
@click.option("--accept", metavar="NAME", multiple=True, help="Take a proposed set into the configuration.")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def plan(console: Console, accept: tuple[str, ...], *, as_json: bool) -> None:
    """Say what would be backed up now and how, and propose sets for what is in none; needs root, not the agent."""
    told = _planned(console)
    if accept:
        _accept(console, told["proposed"], accept)
        return
    if as_json:
        console.json(told)
        return
    for title, sets in (("Sets", told["sets"]), ("Proposed: accept with --accept NAME", told["proposed"])):
        if sets:
            click.secho(f"{title}", bold=True)
            console.table(("set", "mode", "size", "stands still", "what"), (_planned_row(one) for one in sets))
            for one in sets:
                for note in one["notes"]:
                    click.echo(f"  {one['name']}: {note}")
                for fault in one["refusals"]:
                    console.problem(f"{one['name']}: {fault['what']}", repair=fault["repair"])
    if not told["sets"] and not told["proposed"]:
        click.echo("no container keeps anything here")


@commands.command("run")
@click.argument("name", metavar="[SET]", default="")
@click.option("--detach", is_flag=True, help="Print the run's id and do not wait.")
@click.option("--json", "as_json", is_flag=True, help="Wait, and print the run's record.")
@click.pass_obj
def run(console: Console, name: str, *, detach: bool, as_json: bool) -> None:
    """Back up now: all sets, or one; Ctrl-C stops following, not the run."""
    _follow(console, "/api/backup/run", {"set": name}, detach=detach, as_json=as_json)


@commands.command("verify")
@click.argument("name", metavar="[SET]", default="")
@click.option("--archive", default="", help="One archive, by its id.")
@click.option("--detach", is_flag=True, help="Print the run's id and do not wait.")
@click.option("--json", "as_json", is_flag=True, help="Wait, and print the run's record.")
@click.pass_obj
def verify(console: Console, name: str, archive: str, *, detach: bool, as_json: bool) -> None:
    """Read archives whole and hold every file against its hash."""
    _follow(console, "/api/backup/verify", {"set": name, "archive": archive}, detach=detach, as_json=as_json)


@commands.command("drill")
@click.argument("name", metavar="[SET]", default="")
@click.option("--archive", default="", help="One archive, by its id.")
@click.option(
    "--all", "every", is_flag=True, help="The newest copies of all sets, not only of the one whose turn it is."
)
@click.option("--detach", is_flag=True, help="Print the run's id and do not wait.")
@click.option("--json", "as_json", is_flag=True, help="Wait, and print the run's record.")
@click.pass_obj
def drill(console: Console, name: str, archive: str, *, every: bool, detach: bool, as_json: bool) -> None:
    """Restore a copy beside what lives and start its containers there, without a network, to see whether it lives."""
    if sum(map(bool, (name, archive, every))) > 1:
        raise click.UsageError("SET, --archive and --all exclude one another")
    asked = {"set": name, "archive": archive, "all": "yes" if every else ""}
    _follow(console, "/api/backup/drill", asked, detach=detach, as_json=as_json)


@commands.command("prune")
@click.option("--plan", "only_plan", is_flag=True, help="Say what would be deleted, and delete nothing.")
@click.option("--accept", metavar="SET", default="", help="The last change of this set's size is meant.")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def prune(console: Console, accept: str, *, only_plan: bool, as_json: bool) -> None:
    """Delete what need not be kept."""
    if not only_plan:
        _follow(console, "/api/backup/prune", {"accept": accept}, detach=False, as_json=as_json)
        return
    archives = console.client().get("/api/backup/prune")["archives"]
    if as_json:
        console.json(archives)
        return
    rows = ((one["set"], one["engine"], local_time(one["at"]), one["fate"], one["why"]) for one in archives)
    console.table(("set", "at", "time", "fate", "why"), rows)


@commands.command("list")
@click.argument("name", metavar="[SET]", default="")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def list_archives(console: Console, name: str, *, as_json: bool) -> None:
    """List the archives, newest first."""
    archives = console.client().get("/api/backup/archives", set=name)["archives"]
    if as_json:
        console.json(archives)
        return
    rows = (
        (
            one["id"],
            one["engine"],
            local_time(one["at"]),
            one["verdict"],
            shown.size(one["stored_bytes"]),
            one["files"],
            _proof(one),
        )
        for one in archives
    )
    console.table(("archive", "at", "time", "kind", "size", "files", "proof"), rows)


@commands.command("show")
@click.argument("archive", metavar="ARCHIVE")
@click.pass_obj
def show(console: Console, archive: str) -> None:
    """Show all that is known of one archive, as JSON."""
    found = [one for one in console.client().get("/api/backup/archives")["archives"] if one["id"] == archive]
    if not found:
        raise click.UsageError(f"there is no archive {archive}: homelab-agent backup list")
    console.json(found[0])


@commands.command("init")
@click.argument("name", metavar="REPOSITORY")
@click.option("--kit-is-kept", is_flag=True, help="Say that what `backup kit` prints is kept in another place.")
@click.pass_obj
def init(console: Console, name: str, *, kit_is_kept: bool) -> None:
    """Make a restic repository, encrypted with its password; needs no agent."""
    from homelab_agent.backup import alone

    settings = _settings(console)
    _check_repository(settings, name)
    asyncio.run(alone.init(settings, name, console.secrets(), kit_is_kept=kit_is_kept))
    click.echo(f"made the repository {name}")


@commands.command("kit")
@click.option("--with-secrets", is_flag=True, help="Print the passwords, too; else there is a line for each.")
@click.option("--is-kept", metavar="REPOSITORY", default="", help="Print nothing; say that it is kept elsewhere.")
@click.pass_obj
def show_kit(console: Console, *, with_secrets: bool, is_kept: str) -> None:
    """Print what is needed on paper to restore without this machine."""
    from homelab_agent.backup import alone, kit

    settings = _settings(console)
    if is_kept:
        _check_repository(settings, is_kept)
        kit.keep(settings.records, is_kept, datetime.now(UTC))
        click.echo(f"noted: what opens {is_kept} is kept in another place")
        return
    secrets = asyncio.run(alone.secrets_of_all(settings, console.secrets())) if with_secrets else {}
    click.echo(kit.text(settings, os.uname().nodename, secrets), nl=False)


@commands.command("resume")
@click.pass_obj
def resume(console: Console) -> None:
    """Have every container run again that a backup has stopped; needs root, not the agent."""
    from homelab_agent.backup import alone  # with the engine's client: not for the other commands

    said = asyncio.run(alone.resume(_settings(console)))
    for line in said or ["nothing stands still for a backup"]:
        click.echo(line)


def _planned(console: Console) -> Mapping[str, Any]:
    from homelab_agent.backup import alone

    return asyncio.run(alone.plan(_settings(console), console.whereabouts()))


def _check_repository(settings: BackupSettings, name: str) -> None:
    if name not in {one.name for one in settings.repository}:
        raise click.UsageError(f"there is no [[backup.repository]] {name} in the configuration")


def _settings(console: Console) -> BackupSettings:
    """Return the section; before there is one, what it is by default."""
    from homelab_agent.backup.settings import BackupSettings

    found: BackupSettings | None = console.section("backup")
    return found or BackupSettings()


def _accept(console: Console, proposed: Sequence[Mapping[str, Any]], wanted: Sequence[str]) -> None:
    known = {one["name"]: one for one in proposed}
    for name in wanted:
        if name not in known:
            raise click.UsageError(f"no set {name} is proposed: homelab-agent backup plan")
    path = console.find_configuration()
    for name in wanted:
        console.add_entry(path, "backup.set", known[name]["entry"], again=["backup", "plan", "--accept", name])
        click.echo(f"wrote {path}: [[backup.set]] {name}")
    click.echo("to have it taken up: systemctl restart homelab-agent (or end the agent and start it again)")


def _planned_row(one: Mapping[str, Any]) -> Sequence[object]:
    what = [*one["members"], *(f"dump of {name}" for name in one["dumps"])]
    still = f"{one['freeze_seconds']:.0f} s: {', '.join(one['frozen'])}" if one["frozen"] else "nothing"
    return one["name"], one["mode"], shown.size(one["bytes"]), still, ", ".join(what)


def _follow(console: Console, path: str, asked: Mapping[str, str], *, detach: bool, as_json: bool) -> None:
    given = {name: value for name, value in asked.items() if value}
    run_id = console.client().post(path, given)["run"]
    if detach:
        click.echo(run_id)
    elif as_json:
        following.result(console, run_id)
    else:
        following.follow(console, run_id)


def _proven(one: Mapping[str, Any]) -> str:
    if not one["drilled"]:
        return "-"
    said = local_time(one["proven_at"]) or "never"
    return said if one["drill_ok"] is not False else f"{said} (the last drill failed)"


def _proof(one: Mapping[str, Any]) -> str:
    if one["proven_at"]:
        return f"restored {local_time(one['proven_at'])}"
    if one["verified_at"] and not one["verified_ok"]:
        return f"damaged, seen {local_time(one['verified_at'])}"
    return f"read back {local_time(one['verified_at'])}" if one["verified_at"] else "none"
