"""What changes while somebody looks: the overview for the status page, one run for whoever follows it."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack
from typing import Any

from homelab_agent.core.foundation import Foundation
from homelab_agent.core.http import Event
from homelab_agent.core.jobs import RunRecord
from homelab_agent.web import wire

SOONEST_SECONDS = 1.0
LATEST_SECONDS = 10.0


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


async def run(base: Foundation, run_id: str, last_event_id: str) -> AsyncGenerator[Event, None]:
    """Yield the run's record, whole, now and for every change, until it has ended.

    The event's id is a digest of the record: who comes back with the present one in `Last-Event-ID` is told
    of changes only, and since each event says everything, nothing that was missed matters.
    """
    with base.jobs.changes.subscribe() as changes:
        record = await base.jobs.get(run_id)
        while record is not None:
            event = of(record)
            if event.id != last_event_id:
                yield event
            if record.ended:
                return
            record = await _next(base, run_id, changes)


async def _next(base: Foundation, run_id: str, changes: asyncio.Queue[RunRecord]) -> RunRecord | None:
    """Return the run's next record; asked for when none came for a while, as a feed drops what is not read in time."""
    try:
        async with asyncio.timeout(LATEST_SECONDS):
            while (record := await changes.get()).id != run_id:
                continue
            return record
    except TimeoutError:
        return await base.jobs.get(run_id)


def of(record: RunRecord) -> Event:
    """Return the event that tells of a run; its progress is not part of the digest once it has ended.

    By then it is forgotten, and a record that is read again must be the same.
    """
    lasting = dataclasses.replace(record, progress=None) if record.ended else record
    return Event("run", record, hashlib.sha256(wire.dump(lasting)).hexdigest()[:16])


async def _first(health: asyncio.Queue[Any], runs: asyncio.Queue[Any], seconds: float) -> None:
    """Return when there is something in either queue, or after `seconds`."""
    waiting = [asyncio.ensure_future(queue.get()) for queue in (health, runs)]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
