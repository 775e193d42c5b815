"""The real agent is killed between a promise and its sending: what was promised is told once or twice, never not."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from functools import partial
from typing import Any

import pytest

from tests.agent import Agent
from tests.neighbours.ntfy import Ntfy
from tests.neighbours.ports import free_port
from tests.notified import secret
from tests.waiting import until

NOWHERE = "postgresql://nobody@127.0.0.1:9/none"


def configured(agent: Agent, ntfy: Ntfy, more: str = "") -> None:
    reference = secret(agent.directory, "phone", ntfy.url())
    target = f'[[notify.target]]\nname = "phone"\nurl = "{reference}"\n'
    agent.write(f"[notify]\ngrace = 0\ngrace_degraded = 0\ngroup = 0\n\n{target}\n{more}", database=NOWHERE)


def rows(agent: Agent, query: str) -> list[Any]:
    """Return what state.db answers; nothing while it is being made."""
    if not (agent.state / "state.db").exists():
        return []
    connection = sqlite3.connect(f"file:{agent.state / 'state.db'}?mode=ro", uri=True)
    try:
        return connection.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []
    finally:
        connection.close()


def promised(agent: Agent) -> list[dict[str, Any]]:
    """Return what state.db says of the messages about lives without an end: when each began, and what became of it."""
    return [
        {"detail": detail, "tries": tries, "outcome": outcome}
        for items, tries, outcome in rows(agent, "SELECT items, tries, outcome FROM notify_message ORDER BY rowid")
        for _, check, _, _, detail, *_ in json.loads(items)
        if check == "agent restarted"
    ]


def live(agent: Agent) -> None:
    """Start the agent and wait until it has noted that its life has begun: a kill is news from then on."""
    before = began(agent)
    agent.start()
    until(lambda: began(agent) > before, "its life has begun")


def began(agent: Agent) -> int:
    """Return when the last life began."""
    return next((int(at) for (at,) in rows(agent, "SELECT began_at FROM notify_life")), 0)


def test_an_agent_that_ended_as_it_should_is_not_told_of_and_a_killed_one_is(agent: Agent, ntfy: Ntfy) -> None:
    configured(agent, ntfy)
    live(agent)
    agent.stop()
    live(agent)
    agent.kill()
    live(agent)
    until(lambda: any(one.title == "testhost: agent restarted" for one in ntfy.messages), "it is told")
    assert len(promised(agent)) == 1
    agent.stop()


@pytest.mark.timeout(400)
def test_five_agents_killed_while_they_tell_have_told_all_in_the_end(agent: Agent, ntfy: Ntfy) -> None:
    dice = random.Random(20261129)
    configured(agent, ntfy)
    live(agent)
    for _ in range(5):
        agent.kill()  # which the next one promises to tell
        how = dice.choice(["before it is sent", "sent, and not answered", "at any moment"])
        if how == "before it is sent":
            ntfy.down()
        elif how == "sent, and not answered":
            ntfy.keep_waiting()
        live(agent)
        if how == "at any moment":
            time.sleep(dice.uniform(0, 0.5))
        else:
            until(lambda: any(not one["outcome"] for one in promised(agent)), "it is promised")
        agent.kill()
        ntfy.mend()
        if how == "before it is sent":
            ntfy.up()
        live(agent)
        until(lambda: all(one["outcome"] == "sent" for one in promised(agent)), "all is told", seconds=60)
    agent.stop()
    lives = promised(agent)
    assert len(lives) == 10
    told = "\n".join(one.message for one in ntfy.messages)
    for life in lives:
        count = told.count(life["detail"])
        assert 1 <= count <= 1 + life["tries"], life
    assert sum(told.count(life["detail"]) > 1 for life in lives) < 10


def findings(agent: Agent) -> dict[str, str]:
    """Return of which probes something was promised, as state.db has it, and what became of it."""
    found = rows(agent, "SELECT items, outcome FROM notify_message ORDER BY rowid")
    return {check: outcome for items, outcome in found for _, check, *_ in json.loads(items) if "probe" in check}


def probing(names: list[str]) -> str:
    """Return the section for probes that nobody answers."""
    return "\n".join(
        f'[[metrics.probe]]\nname = "{name}"\ntarget = "127.0.0.1:{free_port()}"\nevery = 5\n' for name in names
    )


@pytest.mark.timeout(600)
def test_of_five_agents_killed_between_what_counts_as_told_and_its_sending_each_finding_is_told(
    agent: Agent, ntfy: Ntfy
) -> None:
    dice = random.Random(20261130)
    names: list[str] = []
    ways = ["before it is sent", "sent, and not answered", "at any moment"]
    for number in range(5):
        new = [f"r{number}-{each}" for each in range(3)]
        names += new
        configured(agent, ntfy, probing(names))
        how = ways[number % len(ways)]
        if how == "before it is sent":
            ntfy.down()
        elif how == "sent, and not answered":
            ntfy.keep_waiting()
        live(agent)
        if how == "at any moment":
            time.sleep(dice.uniform(0, 2))
        else:
            until(partial(are_promised, agent, new), "they count as told", seconds=60)
            time.sleep(dice.uniform(0, 0.05))
        agent.kill()
        ntfy.mend()
        if how == "before it is sent":
            ntfy.up()
        live(agent)
        until(partial(are_promised, agent, new, outcome="sent"), "they are told", seconds=90)
        agent.stop()
    told = "\n".join(one.message for one in ntfy.messages)
    counts = {name: told.count(f"metrics.probe.{name} is failed") for name in names}
    assert set(counts.values()) <= {1, 2}, counts
    assert sum(counts.values()) < 2 * len(names)


def are_promised(agent: Agent, names: list[str], *, outcome: str = "") -> bool:
    """Whether of each of these something was promised, and came to that."""
    found = findings(agent)
    return all(found.get(f"metrics.probe.{name}", "none") in {outcome, "sent"} for name in names)


def test_what_strangers_send_to_the_webhook_is_told_to_nobody(agent: Agent, ntfy: Ntfy) -> None:
    key = secret(agent.directory, "hook", "a-secret-of-the-webhook-that-is-long-enough")
    gitops = (
        f'[gitops]\n\n[[gitops.repository]]\nname = "site"\nfull_name = "me/site"\n'
        f'directory = "{agent.directory / "none"}"\n\n[[gitops.repository.secret]]\nname = "a"\nsecret = "{key}"\n'
    )
    configured(agent, ntfy, gitops)
    agent.start()
    for number in range(40):
        status, _ = agent.get(
            "/api/webhook/gitops",
            {
                "X-GitHub-Event": "canary-event",
                "X-GitHub-Delivery": f"canary-{number}",
                "X-Hub-Signature-256": "sha256=canary",
                "Content-Type": "application/json; canary",
                "User-Agent": "canary",
            },
            "POST",
        )
        assert status >= 400
    until(lambda: any("database" in one.message for one in ntfy.messages), "much is told", seconds=60)
    assert not [one for one in ntfy.messages if "canary" in one.title + one.message]
    agent.stop()


@pytest.mark.timeout(180)
def test_what_was_told_is_a_row_and_an_entry_and_commands_tell_of_it(agent: Agent, ntfy: Ntfy) -> None:
    agent.write()
    reference = secret(agent.directory, "phone", ntfy.url("canary0topic0of0ntfy"))
    with agent.config.open("a") as file:
        file.write(f'\n[[notify.target]]\nname = "phone"\nurl = "{reference}"\n')
    agent.start_with_database()
    done = agent.run("notify", "test", "phone")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split("  ")[0] == "phone"
    assert "it answers 200 OK" in done.stdout
    assert agent.run("notify", "test", "nobody").returncode != 0
    assert "moving the house" in agent.run("notify", "mute", "--for", "2h", "--reason", "moving the house").stdout
    assert "muted until" in agent.run("notify", "status").stdout
    assert "told again" in agent.run("notify", "unmute").stdout
    page = agent.get("/")[1].decode()
    assert "test of phone" in page
    agent.kill()
    agent.start_with_database()
    until(lambda: agent.sql("SELECT 1 FROM notification WHERE outcome = 'sent'"), "its row has come", seconds=60)
    [row] = agent.sql("SELECT target, severity, title, checks, outcome, tries, n.answer AS said FROM notification AS n")
    assert row == {
        "target": "phone", "severity": "failed", "title": "testhost: agent restarted", "checks": "agent restarted",
        "outcome": "sent", "tries": 1, "said": "it answers 200 OK",
    }  # fmt: skip
    assert "phone was told of agent restarted" in agent.run("timeline", "--since", "1h").stdout
    ntfy.fail(403, body=b'{"code": 40301, "http": 403, "error": "forbidden"}')
    failed = agent.run("notify", "test")
    assert failed.returncode == 1
    assert "403" in failed.stdout
    assert json.loads(agent.run("notify", "status", "--json").stdout)["targets"][0]["test"]["ok"] is False
    agent.stop()
    assert "canary" not in agent.printed()
    assert "notify.sent" in agent.printed()
