"""`homelab-agent deliveries`: which webhooks came, what became of each, and one of them once more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import click

from homelab_agent.core.console import Console, local_time
from homelab_agent.core.errors import AgentError
from homelab_agent.gitops import commands as gitops


class ForNone(AgentError):
    """The delivery {guid} is for no repository that is configured."""

    repair = "homelab-agent deliveries show {guid}"


@click.group("deliveries", cls=gitops.Commands)
def commands() -> None:
    """Look at the webhooks that came, and replay one."""


@commands.command("list")
@click.option("--repository", default="", help="Only those of this one.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def list_deliveries(console: Console, repository: str, limit: int, *, as_json: bool) -> None:
    """List the newest deliveries that were verified, and how the last attempt of each ended."""
    found = console.client().get("/api/gitops/deliveries", repository=repository, limit=limit)["deliveries"]
    if as_json:
        console.json(found)
        return
    rows = (
        (
            local_time(one["received_at"]),
            one["repository"],
            one["event"],
            one["after_sha"][:7],
            _verdict(one["attempts"][-1]),
            one["attempts"][-1]["detail"],
            one["guid"],
        )
        for one in found
    )
    console.table(("received", "repository", "event", "commit", "verdict", "detail", "delivery"), rows)


@commands.command("show")
@click.argument("guid")
@click.option("--payload", is_flag=True, help="Print what its body says, and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def show(console: Console, guid: str, *, payload: bool, as_json: bool) -> None:
    """Tell of one delivery: when it came, how it was signed, what was tried and how that ended."""
    if payload:
        console.json(console.client().get(f"{_path(guid)}/payload"))
        return
    found = console.client().get(_path(guid))
    if as_json:
        console.json(found)
        return
    for name, value in (
        ("delivery", found["guid"]),
        ("received", local_time(found["received_at"])),
        ("from", found["source"]),
        ("signed with", found["key_name"]),
        ("repository", found["repository"] or "none of the configured ones"),
        ("event", found["event"]),
        ("ref", found["ref"]),
        ("commit", found["after_sha"]),
    ):
        if value:
            click.echo(f"{name.ljust(12)}{value}")
    for attempt in found["attempts"]:
        _show_attempt(attempt)


@commands.command("replay")
@click.argument("guid")
@click.option(
    "--plan", "only_plan", is_flag=True, help="Say what a sync of its repository would do now, change nothing."
)
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def replay(console: Console, guid: str, *, only_plan: bool, as_json: bool) -> None:
    """Open the next attempt of a delivery, however its last one ended."""
    if only_plan:
        gitops.tell_plan(console, _repository(console, guid), as_json=as_json)
        return
    receipt = console.client().post(f"{_path(guid)}/replay")
    if as_json:
        console.json(receipt)
        return
    said = f"attempt {receipt['attempt']} for {receipt['repository'] or 'no repository'}: {receipt['status']}"
    click.echo(f"{said}{receipt['detail'] and ', ' + receipt['detail']}")
    if receipt["status"] == "open":
        click.echo(f"what becomes of it: homelab-agent deliveries show {guid}")


def _show_attempt(attempt: Mapping[str, Any]) -> None:
    click.echo(f"\nattempt {attempt['number']}, {local_time(attempt['opened_at'])}: {_verdict(attempt)}")
    for name, value in (
        ("detail", attempt["detail"]),
        ("repair", attempt["repair"]),
        ("reached", attempt["sha_reached"]),
        ("run", attempt["run_id"]),
        ("ended", local_time(attempt["closed_at"])),
    ):
        if value:
            click.echo(f"  {name.ljust(8)}{value}")


def _repository(console: Console, guid: str) -> str:
    """Return the repository that a delivery is for; raises `ForNone`."""
    name: str = console.client().get(_path(guid))["repository"]
    if not name:
        raise ForNone(guid=guid)
    return name


def _verdict(attempt: Mapping[str, Any]) -> str:
    return attempt["verdict"] or "open"


def _path(guid: str) -> str:
    return f"/api/gitops/deliveries/{quote(guid, safe='')}"
