"""A target that perhaps takes a message and never says so is told it a few times, far apart, and not for a day."""

from __future__ import annotations

import asyncio
from pathlib import Path

from homelab_agent.core.health import Finding
from homelab_agent.core.spool import Spool
from homelab_agent.core.state import State
from homelab_agent.notify.answer import UNCLEAR_MAX, Answer
from homelab_agent.notify.courier import Courier
from homelab_agent.notify.decision import Item, Kind
from homelab_agent.notify.message import Text, Writer
from homelab_agent.notify.promise import Portion, Promise
from homelab_agent.notify.queue import Queue
from homelab_agent.notify.severity import Severity
from homelab_agent.notify.target import Target
from tests.clock import MovableClock, until
from tests.neighbours.ntfy import Ntfy
from tests.notified import SCHEMAS, room, secret


class Silent:
    """Takes what it is sent, and says nothing."""

    def __init__(self, clock: MovableClock) -> None:
        self.at: list[float] = []
        self._clock = clock

    async def address(self) -> str:
        return ""

    async def send(self, _text: Text) -> Answer:
        self.at.append(self._clock.read().monotonic)
        return Answer(ok=False, words="no answer in time", unclear=True)


async def test_it_is_told_a_few_times_in_over_an_hour(tmp_path: Path) -> None:
    clock = MovableClock()
    state = await State.open(tmp_path, SCHEMAS, clock=clock)
    spool = Spool(state, clock, host="nas", max_bytes=2**24, max_age=86400)
    queue, silent = Queue(state, spool, clock, host="nas"), Silent(clock)
    writer = Writer("nas", 8)
    courier = Courier(Target("phone"), silent, queue, writer, clock, page=str, give_up=86400)
    found: list[Finding] = []
    courier.report = found.append
    now = clock.read().wall
    await queue.promise([Promise("phone", (Item(Kind.TROUBLE, "web", Severity.FAILED, now),), now)])
    task = asyncio.ensure_future(courier.run())
    try:
        async with asyncio.timeout(30):
            while not found or found[-1].state != "failed":
                await clock.advance(10)
                await asyncio.sleep(0.001)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await spool.close()
        await state.close()
    assert len(silent.at) == UNCLEAR_MAX
    assert silent.at[-1] - silent.at[0] > 2400
    assert not queue.waiting("phone")


async def _let_go(directory: Path) -> None:
    """Leave a state.db in which a message to the phone is let go."""
    clock = MovableClock()
    state = await State.open(directory, SCHEMAS, clock=clock)
    spool = Spool(state, clock, host="nas", max_bytes=2**24, max_age=86400)
    queue, now = Queue(state, spool, clock, host="nas"), clock.read().wall
    one = Promise("phone", (Item(Kind.TROUBLE, "web", Severity.FAILED, now),), now)
    await queue.promise([one])
    await queue.let_go([Portion(one, one.items)], "no answer in time", "nas: web is failed")
    await spool.close()
    await state.close()


async def test_a_test_that_is_taken_forgives_what_was_let_go_and_the_next_agent_knows(
    tmp_path: Path, ntfy: Ntfy
) -> None:
    await _let_go(tmp_path)
    section = {"target": [{"name": "phone", "url": secret(tmp_path, "phone", ntfy.url())}]}
    async with room(tmp_path, section) as house:
        await until(lambda: house.finding("notify.target.phone").state == "failed", "what was let go is known")
        await house.ask("POST", "/api/notify/test", {})
        assert house.finding("notify.target.phone").state == "ok"
    async with room(tmp_path, section) as house:
        await until(lambda: house.finding("notify.target.phone").detail == "it has taken all messages", "it is known")


async def test_a_target_of_another_address_or_that_was_removed_is_forgiven_by_the_next_agent_too(
    tmp_path: Path, ntfy: Ntfy
) -> None:
    urls = [secret(tmp_path, "old", ntfy.url()), secret(tmp_path, "new", ntfy.url("other"))]
    old, new, renamed = [
        {"target": [{"name": name, "url": url}]}
        for name, url in (("phone", urls[0]), ("phone", urls[1]), ("mobile", urls[0]))
    ]
    for number, (first, second) in enumerate([(old, new), (old, renamed)]):
        directory = tmp_path / str(number)
        directory.mkdir()
        await _let_go(directory)
        async with room(directory, first) as house:
            await until(lambda: house.finding("notify.target.phone").state == "failed", "what was let go is known")
            house.reload(second)
            house.report("web", Finding.ok("it answers"))  # so that it looks, and tells nothing
            await until(lambda: house.rows("SELECT 1 FROM notify_forgiven"), "it is written down")
        state = await State.open(directory, SCHEMAS, clock=MovableClock())
        spool = Spool(state, MovableClock(), host="nas", max_bytes=2**24, max_age=86400)
        queue = Queue(state, spool, MovableClock(), host="nas")
        await queue.recover()
        assert queue.given_up("phone") == 0
        await spool.close()
        await state.close()
