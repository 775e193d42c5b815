"""What is told reaches ntfy and a mailbox, in words; a target that fails delays no other and is told of elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from homelab_agent.core.health import Finding
from homelab_agent.core.http import BadRequest
from homelab_agent.notify import doctor
from homelab_agent.notify.courier import STOP_SECONDS
from homelab_agent.notify.settings import NotifySettings
from tests.clock import until
from tests.neighbours.ntfy import Ntfy
from tests.neighbours.ports import free_port
from tests.notified import Room, room, secret

DOWN = Finding.failed("PostgreSQL does not answer (connection refused)", "systemctl start postgresql")


def target(directory: Path, name: str, url: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "url": secret(directory, name, url), **more}


async def test_a_message_says_host_what_since_why_what_mends_it_and_where_to_look(tmp_path: Path, ntfy: Ntfy) -> None:
    section = {"target": [target(tmp_path, "phone", ntfy.url())], "page": "https://nas.example.net"}
    async with room(tmp_path, section) as house:
        house.report("database", DOWN)
        await until(lambda: ntfy.messages, "it is told")
        house.report("database", Finding.ok("it answers"))
        await until(lambda: len(ntfy.messages) == 2, "its recovery is told")
        await until(lambda: not house.rows("SELECT 1 FROM notify_message WHERE ended_at IS NULL"), "both are done")
    trouble, recovery = ntfy.messages
    assert trouble.topic == "alerts"
    assert trouble.title == "nas: database is failed"
    lines = trouble.message.splitlines()
    assert lines[:2] == ["database is failed", "Host: nas"]
    assert lines[2].startswith("Since: 20")
    assert lines[3:] == [
        "Cause: PostgreSQL does not answer (connection refused)",
        "Repair: systemctl start postgresql",
        "",
        "https://nas.example.net",
    ]
    assert recovery.title == "nas: database is well again"
    assert "it answers" not in recovery.message
    assert [reply.headers["user-agent"] for reply in ntfy.asked] == ["homelab-agent"] * 2
    assert "x-icon" not in ntfy.asked[0].headers


async def test_a_target_that_is_down_delays_no_other_and_is_told_of_elsewhere_and_catches_up(
    tmp_path: Path, ntfy: Ntfy
) -> None:
    away = Ntfy()
    section = {"target": [target(tmp_path, "away", away.url()), target(tmp_path, "phone", ntfy.url())]}
    async with room(tmp_path, section) as house:
        house.report("database", DOWN)
        await until(lambda: any("database" in one.title for one in ntfy.messages), "the other is told")
        await until(lambda: any("notify.target.away" in one.title for one in ntfy.messages), "it is told of it, too")
        assert "refused" in house.finding("notify.target.away").detail
        with away.lasting():
            await until(lambda: away.messages, "what waited is told", seconds=30)
    assert [one.title for one in away.messages] == ["nas: database is failed"]
    assert not [one for one in away.messages if "notify.target.away" in one.message]


async def test_a_second_disk_that_fails_beside_the_first_is_told_also_after_a_restart(
    tmp_path: Path, ntfy: Ntfy
) -> None:
    section = {"target": [target(tmp_path, "phone", ntfy.url())]}
    first = Finding.failed("sda fails", about=["wwn-1"])
    both = Finding.failed("sda fails; sdb fails", about=["wwn-1", "wwn-2"])
    async with room(tmp_path, section, checks=("metrics.disks",)) as house:
        house.report("metrics.disks", first)
        await until(lambda: len(ntfy.messages) == 1, "the first is told")
        house.report("metrics.disks", both)
        await until(lambda: len(ntfy.messages) == 2, "the second is told")
        await until(lambda: not house.rows("SELECT 1 FROM notify_message WHERE ended_at IS NULL"), "both are noted")
    async with room(tmp_path, section, checks=("metrics.disks",)) as house:
        house.report("metrics.disks", both)
        house.report("metrics.disks", Finding.failed("all fail", about=["wwn-1", "wwn-2", "wwn-3"]))
        await until(lambda: len(ntfy.messages) == 3, "the third is told, and the others are no news")
        await until(lambda: not house.rows("SELECT 1 FROM notify_message WHERE ended_at IS NULL"), "it is noted")
    assert ["sda" in one.message for one in ntfy.messages] == [True, True, False]
    assert "sdb fails" in ntfy.messages[1].message
    assert "all fail" in ntfy.messages[2].message


@pytest.mark.parametrize("status", [429, 500])
async def test_what_is_refused_for_now_is_told_in_the_end(tmp_path: Path, ntfy: Ntfy, status: int) -> None:
    if status == 429:
        ntfy.throttle(3)
    else:
        ntfy.fail(500, body=b"<p>oops")
    async with room(tmp_path, {"target": [target(tmp_path, "phone", ntfy.url())]}) as house:
        house.report("database", DOWN)
        await until(lambda: ntfy.asked, "it was tried")
        await until(lambda: str(status) in house.finding("notify.target.phone").detail, "the answer is told")
        ntfy.mend()
        await until(lambda: ntfy.messages, "it is told", seconds=30)
        await until(lambda: house.rows("SELECT tries FROM notify_message WHERE outcome = 'sent'") == [(2,)], "in two")


async def test_a_target_that_answers_nothing_holds_up_neither_the_loop_nor_others(tmp_path: Path, ntfy: Ntfy) -> None:
    stuck = Ntfy()
    with stuck.lasting():
        stuck.hang()
        section = {"target": [target(tmp_path, "stuck", stuck.url()), target(tmp_path, "phone", ntfy.url())]}
        async with room(tmp_path, section) as house:
            house.report("database", DOWN)
            await until(lambda: ntfy.messages, "the other is told")
            await until(lambda: house.finding("notify.target.stuck").state == "degraded", "it is late", seconds=40)


async def test_what_is_given_up_is_said_and_its_last_words_are_told_to_whom_it_was_for(
    tmp_path: Path, ntfy: Ntfy
) -> None:
    away = Ntfy()
    section = {
        "give_up": 0.001,
        "target": [target(tmp_path, "away", away.url()), target(tmp_path, "phone", ntfy.url())],
    }
    async with room(tmp_path, section) as house:
        house.report("database", DOWN)
        await until(lambda: house.finding("notify.target.away").state == "failed", "it is given up", seconds=40)
        said = house.finding("notify.target.away").detail
        await until(lambda: any("given up" in one.message for one in ntfy.messages), "the other is told")
        rows = house.rows("SELECT outcome FROM notify_message WHERE target = 'away' ORDER BY outcome")
        await until(lambda: not house.rows("SELECT 1 FROM notify_message WHERE target = 'phone' AND outcome = ''"), "")
        told = len(ntfy.messages)
    assert said.startswith("it was not told of 1 messages, which are given up")
    assert rows == [("",), ("given up",)]
    async with room(tmp_path, section) as house:
        house.report("database", DOWN)
        await until(lambda: house.finding("notify.target.away").detail == said, "the next one says so, too")
        with away.lasting():
            await until(lambda: away.messages, "it is back", seconds=60)
            await until(lambda: house.finding("notify.target.away").state == "ok", "all is well")
    assert "messages given up" in away.messages[0].message
    assert "database is failed" in away.messages[0].message
    assert not [one for one in ntfy.messages[told:] if "well" in one.title and "away" not in one.title]
    assert not [one for one in ntfy.messages[told:-1] if "notify.target.away is well again" in one.message]


async def test_a_part_whose_name_is_no_utf_8_is_told_and_ends_no_telling(tmp_path: Path, ntfy: Ntfy) -> None:
    async with room(tmp_path, {"target": [target(tmp_path, "phone", ntfy.url())]}) as house:
        house.report("database", Finding.failed("/mnt is full", about=["/mnt/\udcff"]))
        await until(lambda: ntfy.messages, "it is told")
        house.report("web", Finding.failed("it is down"))
        await until(lambda: len(ntfy.messages) == 2, "the next is told, too")


async def test_a_stop_waits_a_moment_for_the_answer_so_that_nothing_is_sent_twice(tmp_path: Path, ntfy: Ntfy) -> None:
    section = {"target": [target(tmp_path, "phone", ntfy.url())]}
    ntfy.keep_waiting()
    async with room(tmp_path, section) as house:
        house.report("web", Finding.failed("it is down"))
        await until(lambda: ntfy.messages, "it is being sent")
        asyncio.get_running_loop().call_later(0.3, ntfy.mend)
    assert house.rows("SELECT outcome FROM notify_message") == [("sent",)]
    ntfy.keep_waiting()
    async with room(tmp_path, section) as house:
        house.report("database", Finding.failed("it is down"))
        await until(lambda: len(ntfy.messages) == 2, "it is being sent")
        begun = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - begun < STOP_SECONDS + 3
    assert sorted(house.rows("SELECT outcome FROM notify_message")) == [("",), ("sent",)]
    ntfy.mend()


async def test_a_thousand_findings_at_once_are_one_digest(tmp_path: Path, ntfy: Ntfy) -> None:
    names = tuple(f"probe.{number:04}" for number in range(1000))
    section = {"grace": 1, "group": 1, "target": [target(tmp_path, "phone", ntfy.url())]}
    async with room(tmp_path, section, checks=names) as house:
        for name in names:
            house.report(name, Finding.failed("it does not answer " + "at all " * 50))
        await until(lambda: ntfy.messages, "they are told")
        [(size,)] = house.rows("SELECT length(items) FROM notify_message")
    assert size < 80_000
    assert len(ntfy.messages) == 1
    assert ntfy.messages[0].title == "nas: 1,000 need you"
    assert "... and 980 more" in ntfy.messages[0].message
    assert len(ntfy.messages[0].message.encode()) <= 4096


async def test_what_waited_through_an_outage_of_its_target_is_one_digest(tmp_path: Path) -> None:
    away = Ntfy()
    names = tuple(f"probe.{number}" for number in range(5))
    async with room(tmp_path, {"target": [target(tmp_path, "phone", away.url())]}, checks=names) as house:
        for name in names:
            house.report(name, DOWN)
            await until(partial(queued, house, name), f"{name} is queued")
        with away.lasting():
            await until(lambda: away.messages, "it is told", seconds=60)
            await until(
                lambda: not house.rows("SELECT 1 FROM notify_message WHERE ended_at IS NULL"), "all", seconds=30
            )
    assert [one.title for one in away.messages][-1] == "nas: 5 need you"


async def test_a_test_tells_what_the_other_side_answered(tmp_path: Path, ntfy: Ntfy) -> None:
    private = Ntfy(token="tk_canary0of0a0token")
    section = {
        "target": [
            target(tmp_path, "phone", ntfy.url()),
            target(tmp_path, "locked", f"ntfy://tk_wrong0canary0token@127.0.0.1:{private.port}/alerts"),
            target(tmp_path, "nonsense", "nonsense://canary0of0nonsense"),
        ]
    }
    with private.lasting():
        async with room(tmp_path, section) as house:
            tests = (await house.ask("POST", "/api/notify/test", {}))["tests"]
            status = await house.ask("GET", "/api/notify")
    said = {one["target"]: (one["ok"], one["answer"]) for one in tests}
    assert said["phone"] == (True, "it answers 200 OK")
    assert said["locked"][0] is False
    assert "it answers 403 Forbidden" in said["locked"][1]
    assert "forbidden" in said["locked"][1]
    assert said["nonsense"][0] is False
    assert [one["test"].ok for one in status["targets"]] == [True, False, False]
    assert ntfy.messages[0].title == "nas: a test"
    assert "canary" not in str(tests)


async def test_a_target_may_be_called_as_anything_is(tmp_path: Path, ntfy: Ntfy) -> None:
    names = ("heartbeat", "jobs", "target", "url")
    reference = secret(tmp_path, "heartbeat-url", "http://127.0.0.1:9/x")
    section = {
        "target": [target(tmp_path, name, ntfy.url(name)) for name in names],
        "heartbeat": {"url": reference, "job": [{"job": "a", "url": reference}]},
    }
    async with room(tmp_path, section) as house:
        tasks = [task.name for task in house.capability.tasks]
        checks = [check.name for check in house.capability.checks]
        checks += [
            one.name for one in doctor.beside(NotifySettings.model_validate(section), tmp_path, house.base.secrets)
        ]
    assert len(set(tasks)) == len(tasks)
    assert len(set(checks)) == len(checks)


async def test_a_test_of_what_is_no_name_is_refused(tmp_path: Path, ntfy: Ntfy) -> None:
    async with room(tmp_path, {"target": [target(tmp_path, "phone", ntfy.url())]}) as house:
        for odd in (["phone"], {"phone": 1}, 7):
            with pytest.raises(BadRequest):
                await house.ask("POST", "/api/notify/test", {"target": odd})


async def test_a_link_that_leads_to_the_phone_itself_is_left_out(tmp_path: Path, ntfy: Ntfy) -> None:
    async with room(tmp_path, {"target": [target(tmp_path, "phone", ntfy.url())]}) as house:
        house.report("database", DOWN)
        await until(lambda: ntfy.messages, "it is told")
    assert ntfy.messages[0].message.endswith("Repair: systemctl start postgresql")


async def test_nothing_is_told_while_muted_and_what_still_holds_is_when_it_ends(tmp_path: Path, ntfy: Ntfy) -> None:
    section = {"target": [target(tmp_path, "phone", ntfy.url())]}
    async with room(tmp_path, section) as house:
        asked = {"seconds": 3600, "reason": "moving the house"}
        assert (await house.ask("POST", "/api/notify/mute", asked))["reason"] == "moving the house"
        house.report("database", DOWN)
        await until(lambda: house.finding("database").state == "failed", "it is seen")
    async with room(tmp_path, section) as house:  # a restart does not end it
        await until(lambda: "muted until" in (house.capability.summary or str)(), "the mute is known again")
        house.report("database", DOWN)
        await house.ask("POST", "/api/notify/unmute")
        house.report("web", Finding.ok("a change, at which all is looked at"))
        await until(lambda: ntfy.messages, "it is told")
    assert [one.title for one in ntfy.messages] == ["nas: database is failed"]


def written(directory: Path) -> bytes:
    """Return all that state.db and its log hold."""
    return b"".join(path.read_bytes() for path in directory.glob("state.db*"))


def queued(house: Room, check: str) -> bool:
    """Whether something about a check has been promised."""
    return any(f'"{check}"' in items for (items,) in house.rows("SELECT items FROM notify_message"))


class Mailbox:
    """What came by SMTP."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Take one mail."""
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"


@contextmanager
def smtp(mailbox: Mailbox) -> Iterator[int]:
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


async def test_a_mail_goes_over_smtp(tmp_path: Path) -> None:
    mailbox = Mailbox()
    with smtp(mailbox) as port:
        url = f"mailto://127.0.0.1:{port}?from=nas@example.net&to=me@example.net&mode=insecure"
        async with room(tmp_path, {"target": [target(tmp_path, "mail", url)]}) as house:
            house.report("database", DOWN)
            await until(lambda: mailbox.mails, "it is there")
            await until(lambda: house.rows("SELECT outcome FROM notify_message") == [("sent",)], "it is noted")
    assert mailbox.mails[0]["Subject"] == "nas: database is failed"
    assert mailbox.mails[0]["To"] == "me@example.net"
    body = mailbox.mails[0].get_body(("plain",))
    assert body is not None
    assert "Repair: systemctl start postgresql" in body.get_content().splitlines()


async def test_secrets_are_in_nothing_that_is_sent_or_kept(tmp_path: Path) -> None:
    ntfy = Ntfy(token="tk_canary0of0a0token")
    with ntfy.lasting():
        section = {"target": [target(tmp_path, "phone", ntfy.url("canary-topic-71"))]}
        async with room(tmp_path, section) as house:
            await house.ask("POST", "/api/notify/test", {})
            house.base.redactor.add("canary-of-a-password")
            detail = "login with canary-of-a-password as tk_canary0of0a0token\nRepair: rm -rf /\x1b[2J"
            house.report("database", Finding.failed(detail, "psql postgresql://me:canary-of-a-password@db/"))
            await until(lambda: len(ntfy.messages) == 2, "it is told")
            ntfy.fail(500, body=b'{"error": "tk_canary0of0a0token is not welcome"}')
            test = await house.ask("POST", "/api/notify/test", {})
            status = await house.ask("GET", "/api/notify")
            await until(lambda: not house.rows("SELECT 1 FROM notify_message WHERE ended_at IS NULL"), "it is done")
    told = ntfy.messages[1]
    assert "canary" not in told.title + told.message
    assert told.message.count("Repair:") == 2
    assert len([line for line in told.message.splitlines() if line.startswith("Repair:")]) == 1
    assert "\x1b" not in told.message
    assert "canary" not in str(test) + str(status)
    assert b"canary" not in written(tmp_path)
