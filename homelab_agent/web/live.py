"""What changes while somebody looks: the overview for the status page, one run for whoever follows it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from homelab_agent.core.foundation import Foundation
from homelab_agent.core.http import Event
from homelab_agent.core.jobs import RunRecord, Watched
from homelab_agent.web import wire

SOONEST_SECONDS = 1.0
LATEST_SECONDS = 10.0

TOGETHER_SECONDS = 0.02
"""Lines that are printed within so long come as one event."""

_DIGITS_MAX = 18


class Shared:
    """Draws the fragment once for everyone who looks within a second."""

    def __init__(self, draw: Callable[[], Awaitable[str]]) -> None:
        self._draw = draw
        self._drawing: asyncio.Task[str] | None = None
        self._drawn_at = 0.0

    async def get(self) -> str:
        """Return the fragment as it is now, or was less than a second ago."""
        now = asyncio.get_running_loop().time()
        if self._drawing is None or now - self._drawn_at >= SOONEST_SECONDS:
            self._drawn_at = now
            self._drawing = asyncio.ensure_future(self._draw())
        return await asyncio.shield(self._drawing)


async def overview(base: Foundation, shared: Shared) -> AsyncGenerator[Event, None]:
    """Yield the status page's fragment: soon after a change, at most once a second, at least every ten."""
    with ExitStack() as stack:
        health: asyncio.Queue[Any] = stack.enter_context(base.health.changes.subscribe())
        runs: asyncio.Queue[Any] = stack.enter_context(base.jobs.changes.subscribe())
        while True:
            yield Event("overview", await shared.get())
            await asyncio.sleep(SOONEST_SECONDS)
            await _first(health, runs, LATEST_SECONDS - SOONEST_SECONDS)
            for queue in (health, runs):
                while not queue.empty():
                    queue.get_nowait()


@dataclass(frozen=True, slots=True)
class Seen:
    """How far somebody has followed a run: the digest of the last record, and how many lines of output.

    It is the id of every event, so that `Last-Event-ID` says both.
    """

    record: str = ""
    lines: int = 0

    @classmethod
    def of(cls, event_id: str) -> Seen:
        """Return what an event's id says; what is none says that nothing was seen."""
        digest, _, lines = event_id.partition(".")
        is_number = lines.isascii() and lines.isdecimal() and len(lines) <= _DIGITS_MAX
        return cls(digest, int(lines) if is_number else 0)

    def __str__(self) -> str:
        return f"{self.record}.{self.lines}"

    def is_all_of(self, watched: Watched) -> bool:
        """Say whether the run has ended, and was seen to its end."""
        record = watched.record
        return record.ended and digest(record) == self.record and self.lines >= watched.output.printed


async def run(watched: Watched, seen: Seen) -> AsyncGenerator[Event, None]:
    """Yield what was not seen of a run until it has ended: what it prints, and its record, whole, for every change.

    All that it had printed comes before the record. Who comes back is told of changes only; since each record says
    everything, none that was missed matters.
    """
    with watched.news.subscribe() as news:
        while True:
            record, printed = watched.record, watched.output.printed
            while seen.lines < printed:
                part = watched.output.after(seen.lines)
                seen = replace(seen, lines=part.upto)
                yield Event("output", {"lines": part.lines}, str(seen))
            if digest(record) != seen.record:
                seen = replace(seen, record=digest(record))
                yield Event("run", record, str(seen))
            if record.ended:
                return
            await news.get()
            if not watched.record.ended:
                await asyncio.sleep(TOGETHER_SECONDS)


def digest(record: RunRecord) -> str:
    """Return what tells a record from the next; of one that has ended its progress is no part.

    That is forgotten some time, and a record that is read again must be the same.
    """
    lasting = replace(record, progress=None) if record.ended else record
    return hashlib.sha256(wire.dump(lasting)).hexdigest()[:16]


async def _first(health: asyncio.Queue[Any], runs: asyncio.Queue[Any], seconds: float) -> None:
    """Return when there is something in either queue, or after `seconds`."""
    waiting = [asyncio.ensure_future(queue.get()) for queue in (health, runs)]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
