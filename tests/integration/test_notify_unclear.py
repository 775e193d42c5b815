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
from homelab_agent.notify.promise import Promise
from homelab_agent.notify.queue import Queue
from homelab_agent.notify.severity import Severity
from homelab_agent.notify.target import Target
from tests.clock import MovableClock
from tests.notified import SCHEMAS


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
