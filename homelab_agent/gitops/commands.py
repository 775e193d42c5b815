"""`homelab-agent gitops`: what is deployed and was, a sync, a rollback, what they would do, a trial, a new one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import click

from homelab_agent.core import following
from homelab_agent.core.console import CapabilityGroup, Console, local_time
from homelab_agent.core.errors import AgentError
from homelab_agent.gitops import ping_command

PLAN_SECONDS = 3600.0
"""How long a plan is waited for: the agent itself gives up after `[gitops] sync_timeout`."""


class GitopsOff(AgentError):
    """The running agent deploys nothing from git."""

    repair = "homelab-agent gitops add URL DIR, then restart the agent"


@click.group("gitops", cls=CapabilityGroup, off=GitopsOff)
def commands() -> None:
    """Deploy from git: what is deployed, a sync, a rollback, a new repository."""


@commands.command("status")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def status(console: Console, *, as_json: bool) -> None:
    """Tell what is deployed of each repository, and how it stands."""
    repositories = console.client().get("/api/gitops")["repositories"]
    if as_json:
        console.json(repositories)
        return
    rows = (
        (
            one["name"],
            one["branch"],
            one["deployed"][:7],
            local_time(one["deployed_at"]),
            "-" if one["behind"] is None else one["behind"],
            one["waiting"],
            local_time(one["looked_at"]) or "-",
            one["state"],
            one["detail"],
        )
        for one in repositories
    )
    console.table(("name", "branch", "deployed", "when", "behind", "waiting", "looked at", "state", "detail"), rows)
    for one in repositories:
        for line in _more_of(one):
            click.echo(f"{one['name']}: {line}")


@commands.command("history")
@click.argument("repository")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def history(console: Console, repository: str, limit: int, *, as_json: bool) -> None:
    """List the newest deployments of REPOSITORY: from which commit to which, and how each ended."""
    moves = console.client().get(f"{_path(repository)}/moves", limit=limit)["moves"]
    if as_json:
        console.json(moves)
        return
    rows = (
        (
            move["id"],
            local_time(move["started_at"]),
            move["from_sha"][:7],
            move["to_sha"][:7],
            move["state"],
            following.took(move),
            _first_line(move["detail"]),
        )
        for move in moves
    )
    console.table(("deployment", "began", "from", "to", "state", "took", "detail"), rows)
    if moves:
        click.echo("what one did: homelab-agent gitops show DEPLOYMENT")


@commands.command("show")
@click.argument("deployment")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def show(console: Console, deployment: str, *, as_json: bool) -> None:
    """Tell of one DEPLOYMENT: its actions, and the last that each printed. Or of those of a run, by the run's id."""
    moves = console.client().get(f"/api/gitops/moves/{quote(deployment, safe='')}")["moves"]
    if as_json:
        console.json(moves)
        return
    for number, move in enumerate(moves):
        click.echo("" if number == 0 else "\n", nl=False)
        _show_move(move)


@commands.command("plan")
@click.argument("repository")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def plan(console: Console, repository: str, *, as_json: bool) -> None:
    """Say what a sync of REPOSITORY would do now, and change nothing."""
    tell_plan(console, repository, as_json=as_json)


@commands.command("sync")
@click.argument("repository")
@click.option("--again", is_flag=True, help="Also to a commit that was rolled back from before.")
@click.option("--detach", is_flag=True, help="Print the run's id and do not wait.")
@click.option("--json", "as_json", is_flag=True, help="For a program: how it ended, once it has.")
@click.pass_obj
def sync(console: Console, repository: str, *, again: bool, detach: bool, as_json: bool) -> None:
    """Bring REPOSITORY to its branch's tip, and follow what that does; Ctrl-C stops following, not the sync."""
    path = f"{_path(repository)}/sync{'?again=true' if again else ''}"
    _start(console, path, detach=detach, as_json=as_json)


@commands.command("rollback")
@click.argument("repository")
@click.option(
    "--plan", "only_plan", is_flag=True, help="Say where it would go now and what would follow, change nothing."
)
@click.option("--detach", is_flag=True, help="Print the run's id and do not wait.")
@click.option("--json", "as_json", is_flag=True, help="For a program: how it ended, once it has.")
@click.pass_obj
def rollback(console: Console, repository: str, *, only_plan: bool, detach: bool, as_json: bool) -> None:
    """Bring REPOSITORY back to the last good commit before the present one, and follow what that does."""
    if only_plan:
        tell_plan(console, repository, as_json=as_json, of="rollback")
        return
    _start(console, f"{_path(repository)}/rollback", detach=detach, as_json=as_json)


@commands.command("hook-test")
@click.argument("repository")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def hook_test(console: Console, repository: str, *, as_json: bool) -> None:
    """Send the agent a ping signed with REPOSITORY's secret, by the way that the forge's deliveries take."""
    pong = ping_command.send(console, repository)
    if as_json:
        console.json(pong.answer)
        return
    click.echo(f"pong from {pong.url}, signed with the secret {pong.key_name}: {pong.answer['detail']}")


@commands.command("add")
@click.argument("url")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", default="", help="What commands, log and history call it; else the repository's own name.")
@click.option("--full-name", default="", help="OWNER/NAME at the forge, where the address does not tell.")
@click.option("--branch", default="", help="The branch that is deployed; else the one that is checked out.")
@click.option("--user", default="", help="Whose the working copy is; else its owner, or that of the directory above.")
@click.option("--known-hosts", type=click.Path(exists=True, dir_okay=False, resolve_path=True), help="SSH host keys.")
@click.option("--show-secret", is_flag=True, help="Print the hook's secret also where no terminal is.")
@click.option("--wait", is_flag=True, help="Wait until the forge's ping has come and was verified.")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def add(
    console: Console,
    /,
    url: str,
    directory: Path,
    *,
    wait: bool,
    show_secret: bool,
    as_json: bool,
    **named: str | None,
) -> None:
    """Clone URL to DIR, or take the working copy that is there; make its hook's secret and write the configuration.

    Then prints what to type into the forge's form.
    """
    from homelab_agent.gitops import add_command  # with pydantic: not for the other commands

    add_command.add(console, url, directory.absolute(), named, wait=wait, show_secret=show_secret, as_json=as_json)


def run_of(console: Console, repository: str) -> str | None:
    """Return the run of a repository that is under way or waits; None where there is none."""
    found = console.client().get("/api/gitops")["repositories"]
    return next((one["run"] for one in found if one["name"] == repository), None)


def _more_of(one: dict[str, Any]) -> Iterator[str]:
    """Yield what is to be known of a repository beside its line in the table."""
    if one["run"]:
        does = "is at work" if one["busy"] else f"waits for {one['waits_for'] or 'its turn'}"
        yield f"a run {does}: homelab-agent jobs follow {one['run']}"
    for bad in one["bad"]:
        yield f"not deployed again by itself: {bad['sha'][:7]}, {_first_line(bad['why'])}"
    if one["repair"]:
        yield f"repair: {one['repair']}"


def _show_move(move: dict[str, Any]) -> None:
    for name, value in (
        ("deployment", move["id"]),
        ("repository", move["repository"]),
        ("from", move["from_sha"]),
        ("to", move["to_sha"]),
        ("began", local_time(move["started_at"])),
        ("took", following.took(move)),
        ("state", move["state"]),
        ("detail", following.plain(move["detail"])),
        ("run", move["run_id"]),
    ):
        if value:
            click.echo(f"{name.ljust(12)}{value}")
    for action in move["actions"]:
        how, *printed = following.plain(action["detail"]).splitlines() or [""]
        said = f"{action['state']}, {how}" if how else action["state"]
        click.echo(f"\naction {action['name']}, {local_time(action['started_at'])}: {said}")
        for line in printed:
            click.echo(f"  {line}")


def _first_line(text: str) -> str:
    return next(iter(following.plain(text).splitlines()), "")


def tell_plan(console: Console, repository: str, *, as_json: bool, of: Literal["plan", "rollback"] = "plan") -> None:
    """Print what a sync of a repository would do now, or a rollback."""
    planned = console.client(patience=PLAN_SECONDS).get(f"{_path(repository)}/{of}")
    if as_json:
        console.json(planned)
        return
    click.echo(f"{planned['verdict']}: {planned['detail']}")
    if planned["repair"]:
        click.echo(f"  repair: {planned['repair']}")
    click.echo(f"deployed {planned['deployed'][:7] or 'nothing'}, would be {planned['target'][:7] or 'unchanged'}")
    files = planned["files"]
    click.echo("files: " + ("not known, so every action follows" if files is None else str(len(files))))
    for name in files or ():
        click.echo(f"  {name}")
    click.echo(f"actions: {', '.join(planned['actions']) or 'none'}")


def _start(console: Console, path: str, *, detach: bool, as_json: bool) -> None:
    started = console.client().post(path)
    match detach, as_json:
        case True, True:
            console.json(started)
        case True, False:
            click.echo(started["run"])
        case False, True:
            following.result(console, started["run"])
        case False, False:
            following.stream(console, started["run"])


def _path(repository: str) -> str:
    return f"/api/gitops/{quote(repository, safe='')}"
