"""A target that is down, by a clock that the test moves: what is tried, given up, held back, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest

from homelab_agent.core.health import Finding
from homelab_agent.core.spool import Spool
from homelab_agent.core.state import State
from homelab_agent.notify.answer import UNCLEAR_MAX, Answer
from homelab_agent.notify.courier import Courier
from homelab_agent.notify.decision import Item, Kind
from homelab_agent.notify.message import Text, Writer
from homelab_agent.notify.mute import Mute
from homelab_agent.notify.promise import Promise
from homelab_agent.notify.queue import Queue
from homelab_agent.notify.severity import Severity
from homelab_agent.notify.target import Target
from tests.clock import MovableClock, until
from tests.notified import SCHEMAS

HOUR = 3600.0
EVENING = datetime(2026, 11, 24, 22, 0, tzinfo=UTC)


class Phone:
    """The other side: it takes what comes while it `is_up`; while it `is_silent` it perhaps does, and says nothing."""

    def __init__(self) -> None:
        self.is_up = False
        self.is_silent = False
        self.tries = 0
        self.taken: list[Text] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def address(self) -> str:
        """Return where it goes."""
        return ""

    async def send(self, text: Text) -> Answer:
        """Take a message, or do not."""
        self.tries += 1
        await self.may_answer.wait()
        if self.is_up:
            self.taken.append(text)
        words = "it answers 200 OK" if self.is_up else "it does not answer"
        return Answer(ok=self.is_up, words=words, unclear=self.is_silent)


class House:
    """One courier at work."""

    def __init__(self, state: State, clock: MovableClock, quiet: tuple[time, time] | None = None) -> None:
        self.clock = clock
        self.phone = Phone()
        spool = Spool(state, clock, host="nas", max_bytes=2**24, max_age=86400)
        self.queue = Queue(state, spool, clock, host="nas")
        self.mute = Mute(state, clock)
        writer = Writer("nas", digest=8, zone=UTC)
        target = Target("phone", quiet=quiet)
        self.courier = Courier(target, self.phone, self.queue, writer, clock, page=lambda: "", give_up=24 * HOUR)
        self.courier.is_muted = lambda: self.mute.current() is not None
        self.found: list[Finding] = []
        self.courier.report = self.found.append
        self.task = asyncio.ensure_future(self.courier.run())

    async def tell(self, check: str, kind: Kind = Kind.TROUBLE, *, critical: str = "") -> None:
        """Promise something, and with it what is critical."""
        now = self.clock.read().wall
        items = [Item(kind, check, Severity.FAILED, now)]
        if critical:
            items.append(Item(kind, critical, Severity.CRITICAL, now))
        await self.queue.promise([Promise("phone", tuple(items), now)])
        self.courier.news.give()
        await self.at_rest()

    def move(self) -> Phone:
        """Give the target another address; return who is there."""
        phone = Phone()
        writer = Writer("nas", digest=8, zone=UTC)
        self.courier.adopt(self.courier.target, phone, writer, give_up=24 * HOUR)
        return phone

    async def live(self, seconds: float) -> None:
        """Let time pass."""
        while seconds > 0:
            await self.at_rest()
            await self.clock.advance(min(seconds, 60.0))
            seconds -= 60
        await self.at_rest()

    async def at_rest(self) -> None:
        """Wait until it sleeps."""
        await self.clock.advance(0)
        await until(lambda: self.clock.sleepers, "the courier sleeps")


@pytest.fixture
async def state(tmp_path: Path, clock: MovableClock) -> AsyncIterator[State]:
    opened = await State.open(tmp_path, SCHEMAS, clock=clock)
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock(EVENING)


@pytest.fixture
async def house(state: State, clock: MovableClock) -> AsyncIterator[House]:
    begun = House(state, clock)
    yield begun
    begun.task.cancel()
    await asyncio.gather(begun.task, return_exceptions=True)


@pytest.fixture
async def sleeper(state: State, clock: MovableClock) -> AsyncIterator[House]:
    begun = House(state, clock, quiet=(time(22, 30), time(7, 0)))
    yield begun
    begun.task.cancel()
    await asyncio.gather(begun.task, return_exceptions=True)


@pytest.mark.parametrize("step", [-3 * 24 * HOUR, 3 * 24 * HOUR])
async def test_a_clock_that_is_set_gives_nothing_up(house: House, clock: MovableClock, step: float) -> None:
    await house.tell("web")
    clock.step(step)
    await house.live(2 * HOUR)
    assert house.phone.tries > 5
    assert house.queue.given_up("phone") == 0
    await house.live(23 * HOUR)
    assert house.queue.given_up("phone") == 1


async def test_each_message_is_given_up_a_day_after_its_target_took_nothing_and_the_phone_hears_of_it_when_it_is_back(
    house: House,
) -> None:
    await house.tell("web")
    await house.live(HOUR)
    await house.tell("database")
    await house.live(2 * HOUR)
    await house.tell("web", Kind.RECOVERED)
    await house.live(21.5 * HOUR)
    assert house.queue.given_up("phone") == 1
    await house.live(HOUR)
    assert house.queue.given_up("phone") == 2
    assert house.found[-1].detail.startswith("it was not told of 2 messages, which are given up")
    house.phone.is_up = True
    await house.live(HOUR)
    assert [one.title for one in house.phone.taken] == ["nas: 1 needs you, 1 well again, 1 happened"]
    assert "messages given up" in house.phone.taken[0].body
    assert house.found[-1] == Finding.ok("it has taken all messages")


async def test_what_waits_for_the_end_of_quiet_hours_is_not_late(sleeper: House) -> None:
    await sleeper.live(HOUR)
    await sleeper.tell("web")
    await sleeper.live(8.5 * HOUR)
    assert sleeper.phone.tries > 0
    await sleeper.live(22 * HOUR)  # in the second night there is no try
    assert sleeper.queue.given_up("phone") == 0
    await sleeper.live(3 * HOUR)
    assert sleeper.queue.given_up("phone") == 1


async def test_what_waits_is_not_told_while_muted(house: House, clock: MovableClock) -> None:
    await house.tell("web")
    assert house.phone.tries == 1
    until_then = clock.read().wall + timedelta(hours=2)
    await house.mute.set(who="ann", reason="new disks", until=until_then)
    house.phone.is_up = True
    await house.live(1.9 * HOUR)
    assert not house.phone.taken
    await house.live(0.2 * HOUR)
    assert [one.title for one in house.phone.taken] == ["nas: web is failed"]


async def test_what_is_left_of_a_message_that_was_perhaps_taken_at_night_has_tries_of_its_own(sleeper: House) -> None:
    sleeper.phone.is_silent = True
    await sleeper.live(HOUR)
    await sleeper.tell("web", critical="state")
    await sleeper.live(7 * HOUR)
    assert sleeper.phone.tries == UNCLEAR_MAX
    assert sleeper.queue.given_up("phone") == 1
    await sleeper.live(4 * HOUR)
    assert sleeper.phone.tries == 2 * UNCLEAR_MAX
    assert sleeper.queue.given_up("phone") == 2
    assert not sleeper.queue.waiting("phone")


async def test_what_was_tried_before_a_mute_is_no_later_for_it(house: House, clock: MovableClock) -> None:
    await house.tell("web")
    await house.live(HOUR)
    await house.mute.set(who="ann", reason="new disks", until=clock.read().wall + timedelta(hours=30))
    await house.live(32 * HOUR)
    assert house.queue.given_up("phone") == 0
    await house.queue.settle()
    [kept] = await house.queue.last(1)
    [waiting] = house.queue.waiting("phone")
    assert kept.tried_at == waiting.tried_at
    assert waiting.tried_at is not None
    assert clock.read().wall - waiting.tried_at < timedelta(hours=4)
    await house.live(23 * HOUR)
    assert house.queue.given_up("phone") == 1


async def test_how_often_a_message_was_perhaps_taken_is_known_over_a_restart(state: State, clock: MovableClock) -> None:
    tries: list[int] = []
    for seconds in (300, 3 * HOUR):
        house = House(state, clock)
        await house.queue.recover()
        house.phone.is_silent = True
        if not tries:
            await house.tell("web")
        house.courier.news.give()
        await house.live(seconds)
        house.task.cancel()
        await asyncio.gather(house.task, return_exceptions=True)
        tries.append(house.phone.tries)
    assert tries[0] > 1
    assert sum(tries) == UNCLEAR_MAX
    assert house.queue.given_up("phone") == 1


async def test_what_the_old_address_answers_after_a_new_one_is_given_counts_for_nothing(house: House) -> None:
    await house.at_rest()
    house.phone.is_silent = True
    house.phone.may_answer.clear()
    now = house.clock.read().wall
    await house.queue.promise([Promise("phone", (Item(Kind.TROUBLE, "web", Severity.FAILED, now),), now)])
    house.courier.news.give()
    await until(lambda: house.phone.tries, "the old address is asked")
    new = house.move()
    new.is_up = True
    house.phone.may_answer.set()
    await until(lambda: new.taken, "the new address is asked at once")
    await house.at_rest()
    assert {one.state for one in house.found} == {"ok"}
    assert [(one.outcome, one.tries) for one in await house.queue.last(1)] == [("sent", 1)]


async def test_a_new_address_has_not_perhaps_taken_what_the_old_one_has(house: House) -> None:
    house.phone.is_silent = True
    await house.tell("web")
    await house.live(600)
    assert 1 < house.phone.tries < UNCLEAR_MAX
    new = house.move()
    new.is_silent = True
    await house.live(3 * HOUR)
    assert new.tries == UNCLEAR_MAX


async def test_what_is_critical_does_not_wait_behind_what_was_perhaps_taken(house: House) -> None:
    house.phone.is_silent = True
    await house.tell("web")
    await house.live(0.4 * HOUR)  # the next try is up to an hour away
    tries = house.phone.tries
    await house.tell("database")
    await house.live(60)
    assert house.phone.tries == tries
    house.phone.is_up = True
    await house.tell("mail", critical="state")
    await house.live(120)
    assert [one.title for one in house.phone.taken] == ["nas: state is failed"]
    assert house.found[-1].state == "degraded"
    await house.live(HOUR)
    said = [one.title for one in house.phone.taken[1:]]
    assert said == ["nas: web is failed", "nas: database is failed", "nas: mail is failed"]


async def test_no_earlier_word_on_it_comes_after_what_is_critical(house: House) -> None:
    house.phone.is_silent = True
    await house.tell("state")
    await house.live(0.4 * HOUR)
    house.phone.is_up = True
    await house.tell("web", critical="state")
    await house.live(2 * HOUR)
    assert [one.title for one in house.phone.taken] == ["nas: state is failed", "nas: web is failed"]


async def test_what_waits_behind_what_is_let_go_is_told_soon(house: House) -> None:
    house.phone.is_silent = True
    await house.tell("web")
    while house.queue.given_up("phone") == 0:
        await house.live(60)
    house.phone.is_up = True
    await house.tell("database")
    await house.live(120)
    assert [one.title for one in house.phone.taken] == ["nas: database is failed"]


async def test_what_waits_for_the_morning_beside_what_was_taken_at_night_has_not_been_tried(sleeper: House) -> None:
    await sleeper.live(HOUR)
    await sleeper.tell("web", critical="state")
    assert sleeper.found[-1].state == "degraded"
    sleeper.phone.is_up = True
    await sleeper.live(HOUR)
    assert [one.title for one in sleeper.phone.taken] == ["nas: state is failed"]
    assert sleeper.found[-1] == Finding.ok("messages that wait: 1")
    [rest] = sleeper.queue.waiting("phone")
    assert (rest.tries, rest.answer, rest.tried_at, rest.since) == (0, "", None, None)
    newest = await sleeper.queue.last(1)
    assert [(one.outcome, one.tries) for one in newest] == [("sent", 2)]


async def test_last_words_are_not_let_go_however_often_they_were_perhaps_taken(house: House) -> None:
    await house.tell("web")
    await house.live(25 * HOUR)
    assert house.queue.given_up("phone") == 1
    house.phone.is_silent = True
    tries = house.phone.tries
    await house.live(10 * HOUR)
    assert UNCLEAR_MAX < house.phone.tries - tries < 20
    assert house.queue.given_up("phone") == 1
    house.phone.is_up = True
    await house.live(2 * HOUR)
    assert [one.title for one in house.phone.taken] == ["nas: 1 needs you, 1 happened"]


async def test_how_a_target_stands_is_not_said_before_it_is_known(house: House) -> None:
    await house.at_rest()
    assert not house.found
    await house.tell("web")
    assert [one.state for one in house.found] == ["degraded"]
