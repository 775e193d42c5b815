"""`homelab-agent gitops`: what is deployed, what a sync would do, a sync, a rollback, a hook's trial, a new one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import click

from homelab_agent.core import following
from homelab_agent.core.client import RemoteProblem
from homelab_agent.core.console import Console, local_time
from homelab_agent.core.errors import AgentError
from homelab_agent.gitops import trial

PLAN_SECONDS = 3600.0
"""How long a plan is waited for: the agent itself gives up after `[gitops] sync_timeout`."""

_NOT_FOUND = 404


class GitopsOff(AgentError):
    """The running agent deploys nothing from git."""

    repair = "homelab-agent gitops add URL DIR, then restart the agent"


class Commands(click.Group):
    """Commands that ask for what only an agent has that deploys from git."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; raises `GitopsOff` where the agent knows none of these paths."""
        try:
            return super().invoke(ctx)
        except RemoteProblem as error:
            if error.status == _NOT_FOUND and not error.repair:  # what is missing of ours has one
                raise GitopsOff from error
            raise


@click.group("gitops", cls=Commands)
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
            "at work" if one["busy"] else one["state"],
            one["detail"],
        )
        for one in repositories
    )
    console.table(("name", "branch", "deployed", "when", "state", "detail"), rows)
    for one in repositories:
        if one["repair"]:
            click.echo(f"{one['name']}: repair: {one['repair']}")


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
    pong = trial.send(console, repository)
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
    from homelab_agent.gitops import setup  # with pydantic: not for the other commands

    setup.add(console, url, directory.absolute(), named, wait=wait, show_secret=show_secret, as_json=as_json)


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
