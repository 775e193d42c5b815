"""What is told while state.db takes or gives nothing is told once in the end, and by the next agent as it should be."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from homelab_agent.core.health import Finding
from homelab_agent.core.state import State, StateUnavailable
from tests.clock import until
from tests.neighbours.ntfy import Ntfy
from tests.notified import Room, room, secret

DOWN = Finding.failed("it does not answer", "systemctl start it")


class Disk:
    """What state.db is on: it takes nothing while it `is_full`, and gives nothing while it `is_gone`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        self.is_gone = False
        read, write = State.read, State.write

        async def reads(state: State, work: Any) -> Any:
            self._check(state, "read", fails=self.is_gone)
            return await read(state, work)

        async def writes(state: State, work: Any) -> Any:
            self._check(state, "written", fails=self.is_gone or self.is_full)
            return await write(state, work)

        monkeypatch.setattr(State, "read", reads)
        monkeypatch.setattr(State, "write", writes)

    def _check(self, state: State, done: str, *, fails: bool) -> None:
        if fails:
            raise StateUnavailable(directory=state.directory, done=done, repair="", cause="no space left")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def section(directory: Path, ntfy: Ntfy) -> dict[str, Any]:
    return {"target": [{"name": "phone", "url": secret(directory, "phone", ntfy.url())}]}


def counted(house: Room, query: str) -> int:
    return len(house.rows(query))


def titles(ntfy: Ntfy) -> list[str]:
    return [one.title for one in ntfy.messages]


async def begun(house: Room) -> None:
    await until(lambda: counted(house, "SELECT 1 FROM notify_life"), "its life has begun")


async def test_what_was_promised_while_the_disk_was_full_is_told_by_the_next(tmp_path: Path, disk: Disk) -> None:
    away = Ntfy()
    async with room(tmp_path, section(tmp_path, away)) as house:
        await begun(house)
        disk.is_full = True
        house.report("web", DOWN)
        await until(lambda: house.finding("notify.target.phone").state == "degraded", "it was tried")
        disk.is_full = False
        house.report("database", DOWN)
        await until(lambda: counted(house, "SELECT 1 FROM notify_message") == 2, "both are on disk")
        assert counted(house, "SELECT 1 FROM notify_case WHERE check_name IN ('web', 'database')") == 2
    with away.lasting():
        async with room(tmp_path, section(tmp_path, away)) as house:
            house.report("web", DOWN)
            house.report("database", DOWN)
            await until(lambda: len(away.messages) == 2, "both are told")
    assert titles(away) == ["nas: web is failed", "nas: database is failed"]


async def test_what_was_sent_while_the_disk_was_full_is_not_told_by_the_next(
    tmp_path: Path, disk: Disk, ntfy: Ntfy
) -> None:
    async with room(tmp_path, section(tmp_path, ntfy)) as house:
        await begun(house)
        ntfy.fail(500)
        house.report("web", DOWN)
        await until(lambda: counted(house, "SELECT 1 FROM notify_message WHERE tries > 0"), "it was tried")
        disk.is_full = True
        ntfy.mend()
        await until(lambda: ntfy.messages, "it is told", seconds=30)
        await until(lambda: house.finding("notify.target.phone").state == "ok", "it is noted")
        disk.is_full = False
        house.report("web", Finding.ok("fine"))
        await until(lambda: len(ntfy.messages) == 2, "it is well again")
        await until(lambda: counted(house, "SELECT 1 FROM notify_message WHERE outcome = 'sent'") == 2, "on disk, too")
    async with room(tmp_path, section(tmp_path, ntfy)) as house:
        house.report("web", Finding.ok("fine"))
        await begun(house)
        house.report("database", DOWN)
        await until(lambda: len(ntfy.messages) == 3, "what is new is told")
    assert titles(ntfy) == ["nas: web is failed", "nas: web is well again", "nas: database is failed"]


async def test_an_agent_that_begins_without_its_state_tells_what_it_sees_and_then_what_was_left_in_order(
    tmp_path: Path, disk: Disk
) -> None:
    away = Ntfy()
    async with room(tmp_path, section(tmp_path, away)) as house:
        house.report("web", DOWN)
        await until(lambda: counted(house, "SELECT 1 FROM notify_message WHERE tries > 0"), "it was tried")
    disk.is_gone = True
    with capture_logs() as logged:
        async with room(tmp_path, section(tmp_path, away)) as house:
            house.report("state", Finding.failed("it cannot be written"))
            house.report("web", Finding.ok("fine"))
            await until(lambda: house.finding("notify.target.phone").state == "degraded", "it tells what it sees")
            for number in range(10):
                house.report("database", Finding.ok(f"word {number}"))
                await asyncio.sleep(0.01)  # a look at each of them
            disk.is_gone = False
            house.report("state", Finding.ok("what is written is durable"))
            troubles = "SELECT 1 FROM notify_case WHERE told > 0 AND check_name IN ('web', 'state')"
            messages = "SELECT 1 FROM notify_message"
            await until(lambda: counted(house, messages) > 2 and not counted(house, troubles), "both are well again")
            with away.lasting():
                await until(lambda: away.messages, "it is told", seconds=60)
                await until(lambda: not counted(house, f"{messages} WHERE outcome = ''"), "nothing waits")
    assert titles(away) == ["nas: 2 well again"]
    assert sum(one["event"] == "notify.nothing_known" for one in logged) == 1


async def test_an_agent_that_begins_on_a_full_disk_knows_what_was_told(tmp_path: Path, disk: Disk, ntfy: Ntfy) -> None:
    async with room(tmp_path, section(tmp_path, ntfy)) as house:
        house.report("web", DOWN)
        await until(lambda: counted(house, "SELECT 1 FROM notify_message WHERE outcome = 'sent'"), "it is told")
    disk.is_full = True
    async with room(tmp_path, section(tmp_path, ntfy)) as house:
        house.report("web", DOWN)
        house.report("database", DOWN)
        await until(lambda: len(ntfy.messages) == 2, "what is new is told")
        house.report("web", Finding.ok("fine"))
        await until(lambda: len(ntfy.messages) == 3, "what recovers is told")
        disk.is_full = False
        house.report("database", Finding.ok("fine"))
        await until(lambda: counted(house, "SELECT 1 FROM notify_message WHERE outcome = 'sent'") == 4, "all on disk")
        assert not counted(house, "SELECT 1 FROM notify_case WHERE told > 0")
    assert titles(ntfy) == [
        "nas: web is failed", "nas: database is failed", "nas: web is well again", "nas: database is well again",
    ]  # fmt: skip


async def test_what_waits_for_a_target_of_another_name_is_given_up_by_the_next(tmp_path: Path, ntfy: Ntfy) -> None:
    async with room(tmp_path, section(tmp_path, Ntfy())) as house:
        house.report("web", DOWN)
        await until(lambda: counted(house, "SELECT 1 FROM notify_message WHERE tries > 0"), "it was tried")
    renamed = {"target": [{"name": "pocket", "url": secret(tmp_path, "pocket", ntfy.url())}]}
    async with room(tmp_path, renamed) as house:
        await until(lambda: counted(house, "SELECT 1 FROM notify_message WHERE outcome = 'given up'"), "it is given up")
        assert counted(house, "SELECT 1 FROM spool") == 1
