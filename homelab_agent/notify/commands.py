"""`homelab-agent notify`: how targets stand and what they were told, a test, a mute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from homelab_agent.core import errors
from homelab_agent.core.console import CapabilityGroup, Console, local_time
from homelab_agent.core.period import Duration

_TEST_SECONDS = 90.0


class NotifyOff(errors.AgentError):
    """The running agent tells nobody."""

    repair = "add a [[notify.target]], then restart the agent"


@click.group("notify", cls=CapabilityGroup, off=NotifyOff)
def commands() -> None:
    """Who is told what needs a person: what they were told, a test, a mute."""


@commands.command("status")
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1, 200), help="The newest so many messages."
)
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def status(console: Console, limit: int, *, as_json: bool) -> None:
    """Tell how each target stands, what was told last, and until when nothing is."""
    found = console.client().get("/api/notify", limit=limit)
    if as_json:
        console.json(found)
        return
    if found["muted"]:
        click.echo(_muted(found["muted"]))
    rows = (
        (one["name"], one["severity"], one["state"], one["waiting"], _test(one["test"]), one["detail"])
        for one in found["targets"]
    )
    console.table(("target", "from", "state", "waiting", "last test", "how"), rows)
    if found["heartbeat"]:
        click.echo(f"heartbeat: {found['heartbeat']['words']}")
    if found["messages"]:
        click.echo()
        told = (
            (local_time(one["made_at"]), one["target"], one["severity"], one["outcome"], one["tries"], one["checks"])
            for one in found["messages"]
        )
        console.table(("made", "target", "severity", "outcome", "tries", "about"), told)


@commands.command("test")
@click.argument("target", default="")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def test(console: Console, target: str, *, as_json: bool) -> None:
    """Send a test to TARGET, or to all, and tell what each answers; exit 1 where one does not take it."""
    asked = {"target": target} if target else {}
    tests = console.client(patience=_TEST_SECONDS).post("/api/notify/test", asked)["tests"]
    if as_json:
        console.json(tests)
    else:
        rows = ((one["target"], "taken" if one["ok"] else "not taken", one["answer"]) for one in tests)
        console.table(("target", "test", "answer"), rows)
    if not all(one["ok"] for one in tests):
        raise click.exceptions.Exit(errors.Exit.FAILED)


@commands.command("mute")
@click.option("--for", "seconds", type=Duration(), required=True, help="How long: 45m, 2h, 1d.")
@click.option("--reason", required=True, help="Why, in words: whoever looks next wants to know.")
@click.pass_obj
def mute(console: Console, seconds: float, reason: str) -> None:
    """Have nobody told of anything for a while; what still needs a person then is told when it ends."""
    click.echo(_muted(console.client().post("/api/notify/mute", {"seconds": seconds, "reason": reason})))


@commands.command("unmute")
@click.pass_obj
def unmute(console: Console) -> None:
    """End a mute: what needs a person is told again."""
    was = console.client().post("/api/notify/unmute")["was"]
    click.echo("It was not muted." if was is None else "What needs a person is told again.")


def _muted(word: Mapping[str, Any]) -> str:
    return f"muted until {local_time(word['until'])} by {word['who']}: {word['reason']}"


def _test(one: Mapping[str, Any] | None) -> str:
    return "-" if one is None else f"{'taken' if one['ok'] else 'not taken'} {local_time(one['at'])}"
