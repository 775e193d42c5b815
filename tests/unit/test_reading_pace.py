"""Marks are made beside what follows: what is committed meanwhile is marked with the next, however slow the source."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from homelab_agent.reading.document import Status
from homelab_agent.reading.pace import WAITING_MAX, Marking
from homelab_agent.reading.source import Opened
from homelab_agent.reading.tally import Tally
from tests.clock import until


@dataclass
class Slow:
    """A source that marks when it is let."""

    asked: list[tuple[Status, int]] = field(default_factory=list)
    may: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def acknowledge(self, keys: Sequence[str], status: Status, run: str) -> int:  # noqa: ARG002 - an `Opened`
        self.asked.append((status, len(keys)))
        await self.may.acquire()
        return len(keys)


def marking(source: Any, tally: Tally) -> Marking:
    return Marking(cast(Opened, source), "run", tally, marks_rejected=True)


async def test_what_is_committed_while_a_mark_is_under_way_is_marked_at_once_with_the_next() -> None:
    source, tally = Slow(), Tally()
    marks = marking(source, tally)
    await marks.begin(["a"], [])
    await until(lambda: source.asked, "the first is under way")
    await marks.begin(["b", "c"], ["x"])
    await marks.begin(["d"], [])
    assert source.asked == [("processed", 1)]
    for _ in range(3):
        source.may.release()
    await marks.done()
    assert source.asked == [("processed", 1), ("processed", 3), ("rejected", 1)]
    assert tally.marked == 5


async def test_who_stores_much_faster_than_a_source_marks_waits_for_it() -> None:
    source, tally = Slow(), Tally()
    marks = marking(source, tally)
    await marks.begin(["a"], [])
    await until(lambda: source.asked, "the first is under way")
    waiting = asyncio.ensure_future(marks.begin([str(number) for number in range(WAITING_MAX)], []))
    source.may.release()
    await until(lambda: len(source.asked) == 2, "the second is under way")
    assert not waiting.done()
    source.may.release()
    await waiting
    assert tally.marked == 1 + WAITING_MAX
