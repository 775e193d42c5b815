"""Promises on a real state.db: what it did not take is owed to it, and what counts as told is never there first."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.core.spool import Spool
from homelab_agent.core.state import State, StateUnavailable, Work
from homelab_agent.notify.batch import last_words, next_batch
from homelab_agent.notify.decision import Item, Kind
from homelab_agent.notify.promise import LAST_WORDS, Portion, Promise
from homelab_agent.notify.queue import Queue
from homelab_agent.notify.severity import Severity
from tests.clock import MovableClock
from tests.notified import SCHEMAS


class House:
    """A queue on a state.db whose disk takes nothing while `is_full`; `told` is what counts as told."""

    def __init__(self, state: State, clock: MovableClock) -> None:
        self.state = state
        self.clock = clock
        self.is_full = False
        self.told: list[str] = []
        self._write = state.write
        state.write = self._try  # type: ignore[method-assign]
        self.begin()

    def begin(self) -> None:
        """Begin anew, as after a kill: what is on disk is all there is."""
        spool = Spool(self.state, self.clock, host="nas", max_bytes=2**24, max_age=86400)
        self.queue = Queue(self.state, spool, self.clock, host="nas")
        self.queue.book = self._book

    async def _try(self, work: Work[Any]) -> Any:
        if self.is_full:
            raise StateUnavailable(directory=self.state.directory, done="written", repair="", cause="it is full")
        return await self._write(work)

    def _book(self) -> Any:
        said = json.dumps(self.told)

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO notify_case (check_name, told, tells) VALUES ('all', 1, ?)", (said,)
            ).close()

        return write

    async def promise(self, *checks: str, bad: Severity = Severity.FAILED) -> Promise:
        """Promise that these are in trouble."""
        self.told += checks
        now = self.clock.read().wall
        items = tuple(Item(Kind.TROUBLE, check, bad, now) for check in checks)
        made = Promise("phone", items, now)
        await self.queue.promise([made])
        return made

    def waiting(self) -> list[tuple[str, ...]]:
        """Return what waits in memory."""
        return [tuple(item.check for item in one.items) for one in self.queue.waiting("phone")]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask state.db."""
        connection = sqlite3.connect(self.state.directory / "state.db")
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def on_disk(self) -> set[str]:
        """Return the checks of which something is promised or was told, as disk has it."""
        return {item[1] for (items,) in self.rows("SELECT items FROM notify_message") for item in json.loads(items)}

    def book(self) -> set[str]:
        """Return what counts as told, as disk has it."""
        return {check for (said,) in self.rows("SELECT tells FROM notify_case") for check in json.loads(said)}


def whole(*promises: Promise) -> list[Portion]:
    return [Portion(one, one.items) for one in promises]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    clock = MovableClock()
    state = await State.open(tmp_path, SCHEMAS, clock=clock)
    yield House(state, clock)
    await state.close()


async def test_what_the_disk_did_not_take_is_written_with_what_it_takes_next(house: House) -> None:
    await house.promise("a")
    house.is_full = True
    await house.promise("web")
    house.is_full = False
    await house.promise("database")
    assert house.on_disk() == house.book() == {"a", "web", "database"}
    house.begin()
    await house.queue.recover()
    assert house.waiting() == [("a",), ("web",), ("database",)]


async def test_what_is_owed_is_written_though_nothing_else_is_told(house: House) -> None:
    house.is_full = True
    await house.promise("web")
    await house.queue.settle()
    assert not house.on_disk()
    house.is_full = False
    await house.queue.settle()
    assert house.on_disk() == house.book() == {"web"}


async def test_what_was_sent_while_the_disk_took_nothing_is_not_told_by_the_next(house: House) -> None:
    web = await house.promise("web")
    await house.queue.tried(whole(web), "it does not answer", [web])
    house.is_full = True
    await house.queue.sent(whole(web), "it answers 200 OK", "nas: web is failed")
    assert house.rows("SELECT outcome FROM notify_message") == [("",)]
    house.is_full = False
    await house.queue.settle()
    assert house.rows("SELECT outcome, tries FROM notify_message") == [("sent", 2)]
    assert house.rows("SELECT count(*) FROM spool") == [(1,)]
    house.begin()
    await house.queue.recover()
    assert not house.waiting()


async def test_of_a_message_that_was_sent_in_part_the_rest_waits_in_its_place(house: House) -> None:
    mixed, later = await house.promise("web", "state"), await house.promise("database")
    web, state = mixed.items
    await house.queue.sent([Portion(mixed, (state,), (web,))], "it answers 200 OK", "nas: state is failed")
    assert house.waiting() == [("web",), ("database",)]
    assert house.rows("SELECT outcome FROM notify_message ORDER BY rowid") == [("",), ("",), ("sent",)]
    house.begin()
    await house.queue.recover()
    assert house.waiting() == [("web",), ("database",)]
    assert mixed.id != later.id


async def test_what_is_given_up_leaves_its_last_words_in_its_place(house: House) -> None:
    first, second, third = [await house.promise(name) for name in ("a", "b", "c")]
    await house.queue.tried(whole(first), "refused", [first, second, third])
    for count, late in ((2, [first, second]), (3, [third])):
        last = last_words(house.queue.waiting("phone"), late, count)
        await house.queue.give_up(late, last, "refused", "nas: 2 need you")
        assert house.queue.given_up("phone") == count
    assert house.waiting() == [(LAST_WORDS, "a", "b", "c")]
    house.begin()
    await house.queue.recover()
    assert house.waiting() == [(LAST_WORDS, "a", "b", "c")]
    assert house.queue.given_up("phone") == 3
    house.clock.hang(1)
    await house.queue.sent(whole(*house.queue.waiting("phone")), "it answers 200 OK", "nas: 3 need you")
    assert house.queue.given_up("phone") == 0
    house.begin()
    await house.queue.recover()
    assert house.queue.given_up("phone") == 0


async def test_what_ended_or_begins_anew_leaves_no_count_of_unclear_answers(house: House) -> None:
    mixed, whole_one = await house.promise("web", "state"), await house.promise("database")
    web, state = mixed.items
    night = [Portion(mixed, (state,), (web,)), *whole(whole_one)]
    await house.queue.tried(night, "no answer in time", [mixed], unclear=True)
    assert house.rows("SELECT answers FROM notify_unclear") == [(1,), (1,)]
    await house.queue.let_go(night, "no answer in time", "nas: 2 need you")
    assert mixed.unclear == 0
    assert not house.rows("SELECT answers FROM notify_unclear")


async def test_what_is_recovered_late_comes_before_what_is_new(house: House) -> None:
    await house.promise("old")
    house.begin()
    await house.promise("new")
    await house.queue.recover()
    await house.queue.recover()
    assert house.waiting() == [("old",), ("new",)]


@pytest.mark.parametrize("step", [0, -3 * 86400, 3 * 86400])
async def test_how_long_a_target_took_nothing_is_time_that_went_by(house: House, step: float) -> None:
    web = await house.promise("web")
    await house.queue.tried(whole(web), "refused", [web])
    house.clock.step(step)
    house.clock.hang(100)
    assert web.age(house.clock.read().monotonic) == 100
    if step <= 0:
        house.begin()
        await house.queue.recover()
        [web] = house.queue.waiting("phone")
        assert web.age(house.clock.read().monotonic) == (100 if step == 0 else 0)


async def test_rows_of_another_release_hold_up_nothing(house: House) -> None:
    await house.promise("web")
    rows = [("x", '[["doubt", "b", 2, 1, "", "", false]]'), ("y", "{")]
    await house.state.write(
        lambda connection: connection.executemany(
            "INSERT INTO notify_message (id, target, made_at, severity, items) VALUES (?, 'phone', 1, 2, ?)", rows
        ).close()
    )
    house.begin()
    await house.queue.recover()
    assert house.waiting() == [("web",), ("message not read",), ("message not read",)]


@pytest.mark.parametrize("seed", range(8))
async def test_whenever_the_disk_fails_and_it_is_killed_nothing_counts_as_told_that_is_not_promised(
    house: House, seed: int
) -> None:
    dice = random.Random(seed)
    for number in range(100):
        house.is_full = dice.random() < 0.3
        waiting = house.queue.waiting("phone")
        match dice.choice(["promise", "promise", "tried", "sent", "give up", "kill", "settle"]):
            case "promise":
                bad = dice.choice([Severity.FAILED, Severity.CRITICAL])
                await house.promise(f"check.{number}", f"check.{number}.more", bad=bad)
            case "tried" if waiting:
                await house.queue.tried(whole(waiting[0]), "refused", waiting)
            case "sent" if batch := next_batch(waiting, quiet=dice.random() < 0.5):
                await house.queue.sent(batch, "it answers 200 OK", "title")
            case "give up" if late := [one for one in waiting if not one.has_last_words][: dice.randint(0, 3)]:
                await house.queue.give_up(late, last_words(waiting, late, len(late)), "refused", "title")
            case "kill":
                before = house.waiting()
                is_well = not house.is_full
                if is_well:
                    await house.queue.settle()
                house.begin()
                house.is_full = False
                await house.queue.recover()
                house.told = sorted(house.book())
                assert not is_well or house.waiting() == before
            case "settle":
                await house.queue.settle()
        assert house.book() <= house.on_disk()
