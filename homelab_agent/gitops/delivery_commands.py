"""`homelab-agent deliveries`: which webhooks came, what became of each, and one of them once more."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, get_args
from urllib.parse import quote

import click

from homelab_agent.core import following
from homelab_agent.core.console import CapabilityGroup, Console, local_time
from homelab_agent.core.errors import AgentError
from homelab_agent.gitops import commands as gitops
from homelab_agent.gitops.delivery import GOOD, OPEN, Word

_LOOK_SECONDS = 0.3
_MOVED: frozenset[Word] = frozenset({"ok", "included", "action_failed", "unhealthy", "rolled_back"})
"""After these there is a deployment to be shown."""


class ForNone(AgentError):
    """The delivery {guid} is for no repository that is configured."""

    repair = "homelab-agent deliveries show {guid}"


class ReplayFailed(AgentError):
    """Attempt {number} of the delivery {guid} ended as {verdict}."""

    repair = "{repair}"


@click.group("deliveries", cls=CapabilityGroup, off=gitops.GitopsOff)
def commands() -> None:
    """Look at the webhooks that came, and replay one."""


@commands.command("list")
@click.option("--repository", default="", help="Only those of this one.")
@click.option("--verdict", type=click.Choice(get_args(Word)), help="Only those that ended so.")
@click.option("--open", "is_open", is_flag=True, help="Only those that have no verdict yet.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def list_deliveries(
    console: Console, repository: str, verdict: str | None, limit: int, *, is_open: bool, as_json: bool
) -> None:
    """List the newest deliveries that were verified, and how the last attempt of each ended."""
    if is_open and verdict:
        raise click.UsageError("--open and --verdict exclude each other: what is open has no verdict.")
    standing = OPEN if is_open else verdict
    found = console.client().get("/api/gitops/deliveries", repository=repository, verdict=standing, limit=limit)
    if as_json:
        console.json(found["deliveries"])
        return
    rows = (
        (
            one["guid"],
            local_time(one["received_at"]),
            one["repository"],
            one["event"],
            one["after_sha"][:7],
            _verdict(one["attempts"][-1]),
            one["attempts"][-1]["detail"],
        )
        for one in found["deliveries"]
    )
    console.table(("delivery", "received", "repository", "event", "commit", "verdict", "detail"), rows)


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
        ("signed with", f"{found['key_name']}, of {', '.join(found['signers'])}"),
        ("repository", found["repository"] or "none of the configured ones"),
        ("event", found["event"]),
        ("ref", found["ref"]),
        ("commit", found["after_sha"]),
    ):
        if value:
            click.echo(f"{name.ljust(12)}{value}")
    for attempt in found["attempts"]:
        _show_attempt(attempt)
    click.echo(f"\n{_next(found)}")


@commands.command("replay")
@click.argument("guid")
@click.option(
    "--plan", "only_plan", is_flag=True, help="Say what a sync of its repository would do now, change nothing."
)
@click.option("--detach", is_flag=True, help="Do not wait until the attempt has its verdict.")
@click.option("--json", "as_json", is_flag=True, help="For a program: how the attempt stands, once it has its verdict.")
@click.pass_obj
def replay(console: Console, guid: str, *, only_plan: bool, detach: bool, as_json: bool) -> None:
    """Open the next attempt of a delivery, however its last one ended, and follow it; Ctrl-C stops only that."""
    if only_plan:
        gitops.tell_plan(console, _repository(console, guid), as_json=as_json)
        return
    receipt = console.client().post(f"{_path(guid)}/replay")
    if not as_json:
        said = f"attempt {receipt['attempt']} for {receipt['repository'] or 'no repository'}: {receipt['status']}"
        click.echo(f"{said}{receipt['detail'] and ', ' + receipt['detail']}")
    if detach or receipt["status"] != OPEN:
        _leave(console, receipt, as_json=as_json)
        return
    attempt = _followed(console, receipt, quietly=as_json)
    if as_json:
        console.json(attempt)
    else:
        _show_attempt(attempt)
    if attempt["verdict"] not in GOOD:
        words = {name: attempt[name] for name in ("number", "verdict", "repair")}
        raise ReplayFailed(guid=guid, **words, cause=attempt["detail"])


def _leave(console: Console, receipt: Mapping[str, Any], *, as_json: bool) -> None:
    """Say where to look for what becomes of an attempt."""
    if as_json:
        console.json(receipt)
    elif receipt["status"] == OPEN:
        click.echo(f"what becomes of it: homelab-agent deliveries show {receipt['delivery']}")


def _followed(console: Console, receipt: Mapping[str, Any], *, quietly: bool) -> Mapping[str, Any]:
    """Return an attempt once it has its verdict; print meanwhile what the runs of its repository say."""
    attempt = _attempt(console, receipt)
    while not attempt["verdict"]:
        run = None if quietly else gitops.run_of(console, receipt["repository"])
        if run is None:
            time.sleep(_LOOK_SECONDS)
        else:
            with suppress(following.RunFailed):  # the verdict says it
                following.stream(console, run)
        attempt = _attempt(console, receipt)
    return attempt


def _attempt(console: Console, receipt: Mapping[str, Any]) -> Mapping[str, Any]:
    found = console.client().get(_path(receipt["delivery"]))
    attempt: Mapping[str, Any] = found["attempts"][receipt["attempt"] - 1]
    return attempt


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


def _next(found: Mapping[str, Any]) -> str:
    """Return what a person may want to type next."""
    last = found["attempts"][-1]
    if not last["verdict"]:
        return "what is under way: homelab-agent gitops status"
    again = f"to have it tried again: homelab-agent deliveries replay {found['guid']}"
    if last["verdict"] in _MOVED and last["run_id"]:
        return f"what it did: homelab-agent gitops show {last['run_id']}\n{again}"
    return again


def _repository(console: Console, guid: str) -> str:
    """Return the repository that a delivery is for; raises `ForNone`."""
    name: str = console.client().get(_path(guid))["repository"]
    if not name:
        raise ForNone(guid=guid)
    return name


def _verdict(attempt: Mapping[str, Any]) -> str:
    return attempt["verdict"] or OPEN


def _path(guid: str) -> str:
    return f"/api/gitops/deliveries/{quote(guid, safe='')}"
