"""A changed configuration is taken by the agent that runs: targets that come, change and go, graces, the heartbeat."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.core.health import Finding
from homelab_agent.core.secret import ReferenceFaulty
from tests.agent import Agent
from tests.clock import until
from tests.neighbours.monitors import Healthchecks
from tests.neighbours.ntfy import Ntfy
from tests.notified import Room, room, secret

DOWN = Finding.failed("it does not answer", "systemctl start it")


def target(directory: Path, name: str, ntfy: Ntfy, **more: Any) -> dict[str, Any]:
    return {"name": name, "url": secret(directory, name, ntfy.url(name)), **more}


def topics(ntfy: Ntfy, about: str) -> list[str]:
    """Return the topics under which something was told of a check."""
    return sorted(one.topic for one in ntfy.messages if about in one.title)


def ended(house: Room) -> bool:
    """Whether nothing waits."""
    return not house.rows("SELECT 1 FROM notify_message WHERE ended_at IS NULL")


async def test_targets_come_change_and_go_and_others_are_told_as_before(tmp_path: Path, ntfy: Ntfy) -> None:
    phone, mail = target(tmp_path, "phone", ntfy), target(tmp_path, "mail", ntfy)
    async with room(tmp_path, {"target": [phone]}, checks=("web", "database", "backup", "disks")) as house:
        house.report("web", DOWN)
        await until(lambda: topics(ntfy, "web") == ["phone"], "the one that there is is told")
        house.reload({"target": [phone, mail]})
        house.report("database", DOWN)
        await until(lambda: topics(ntfy, "database") == ["mail", "phone"], "the new one is told, too")
        assert house.finding("notify.target.mail").state == "ok"
        assert (await house.ask("POST", "/api/notify/test", {"target": "mail"}))["tests"][0]["ok"]
        await until(lambda: ended(house), "nothing waits")
        moved = target(tmp_path, "moved", ntfy) | {"name": "mail"}
        house.reload({"target": [{**phone, "severity": "critical"}, moved]})
        house.report("backup", DOWN)
        await until(lambda: topics(ntfy, "backup") == ["moved"], "it is told where it is now")
        await until(lambda: ended(house), "nothing waits")
        house.reload({"target": [{**phone, "severity": "critical"}]})
        assert house.finding("notify.target.mail").state == "disabled"
        house.report("backup", Finding.ok("well"))
        await until(lambda: not house.rows("SELECT 1 FROM notify_case WHERE told > 0 AND check_name = 'backup'"), "ok")
        assert topics(ntfy, "backup") == ["moved"]
        house.reload({"target": [{**phone, "severity": "critical"}, moved]})
        assert house.finding("notify.target.mail").state == "ok"
        house.report("disks", DOWN)
        await until(lambda: topics(ntfy, "disks") == ["moved"], "it is told again")


async def test_what_waits_for_a_target_that_goes_is_given_up(tmp_path: Path, ntfy: Ntfy) -> None:
    away, phone = target(tmp_path, "away", Ntfy()), target(tmp_path, "phone", ntfy)
    async with room(tmp_path, {"target": [away, phone]}) as house:
        house.report("database", DOWN)
        await until(lambda: house.finding("notify.target.away").state == "degraded", "it is not taken")
        house.reload({"target": [phone]})
        house.report("web", DOWN)
        await until(lambda: ended(house), "nothing waits")
        rows = house.rows("SELECT outcome, answer FROM notify_message WHERE target = 'away' ORDER BY rowid LIMIT 1")
    assert rows == [("given up", "it is not configured any more")]


async def test_a_grace_that_is_made_shorter_counts_for_what_fails_already(tmp_path: Path, ntfy: Ntfy) -> None:
    section = {"target": [target(tmp_path, "phone", ntfy)]}
    async with room(tmp_path, {**section, "grace": 3600}) as house:
        house.report("database", DOWN)
        await until(lambda: house.finding("database").state == "failed", "it is seen")
        house.reload({**section, "critical": ["database"], "page": "https://nas.example.net"})
        house.report("web", Finding.ok("a change, at which all is looked at"))
        await until(lambda: ntfy.messages, "it is told")
        assert house.rows("SELECT severity FROM notify_message") == [(3,)]
    assert ntfy.messages[0].message.endswith("https://nas.example.net")


async def test_a_heartbeat_begins_changes_and_ends(tmp_path: Path, healthchecks: Healthchecks) -> None:
    first, second = healthchecks.check(), healthchecks.check()
    async with room(tmp_path, {}) as house:
        house.reload({"heartbeat": {"url": secret(tmp_path, "first", first), "every": 1}})
        await until(lambda: healthchecks.of(first), "it calls")
        house.reload({"heartbeat": {"url": secret(tmp_path, "second", second), "every": 1}})
        await until(lambda: healthchecks.of(second), "it calls elsewhere")
        assert house.finding("notify.heartbeat").state == "ok"
        house.reload({})
        assert house.finding("notify.heartbeat").state == "disabled"
        count = len(healthchecks.asked)
        await asyncio.sleep(2.5)  # two calls' time
        assert len(healthchecks.asked) == count
        assert (await house.ask("GET", "/api/notify"))["heartbeat"] is None


async def test_a_reference_that_nothing_reads_changes_nothing(tmp_path: Path, ntfy: Ntfy) -> None:
    phone = target(tmp_path, "phone", ntfy)
    async with room(tmp_path, {"target": [phone]}) as house:
        with pytest.raises(ReferenceFaulty):
            house.reload({"target": [{"name": "mail", "url": "openbao:homelab/mail#url"}]})
        house.report("database", DOWN)
        await until(lambda: topics(ntfy, "database") == ["phone"], "it is told as before")


def test_the_command_says_that_targets_apply(agent: Agent, ntfy: Ntfy) -> None:
    agent.write("[notify]\n", database="postgresql://nobody@127.0.0.1:9/none")
    agent.start()
    refused = agent.run("notify", "test")
    assert "There is no target to test" in refused.stderr
    assert "homelab-agent reload" in refused.stderr
    reference = secret(agent.directory, "phone", ntfy.url())
    more = f'[notify]\ngrace = 5\n\n[[notify.target]]\nname = "phone"\nurl = "{reference}"\n'
    agent.write(more, database="postgresql://nobody@127.0.0.1:9/none")
    said = agent.run("reload")
    assert said.returncode == 0, said.stderr
    assert "notify.target" in said.stdout
    assert "restart" not in said.stdout
    assert agent.run("notify", "test", "phone").returncode == 0
