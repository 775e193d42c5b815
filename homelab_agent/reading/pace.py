"""What need not wait for one another goes on side by side: the next batch comes, and the last is marked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

from homelab_agent.reading.document import Batch, Status
from homelab_agent.reading.source import Opened
from homelab_agent.reading.tally import Tally

WAITING_MAX = 5000
"""So many documents that are stored wait for their mark at most; who is killed meets them again."""


@asynccontextmanager
async def ahead(batches: AsyncGenerator[Batch]) -> AsyncIterator[AsyncIterator[Batch]]:
    """Give the batches, each while the next is fetched already; none is fetched any more when the context ends."""
    coming = asyncio.ensure_future(anext(batches, None))

    async def one_by_one() -> AsyncIterator[Batch]:
        nonlocal coming
        while (batch := await coming) is not None:
            coming = asyncio.ensure_future(anext(batches, None))
            yield batch

    try:
        yield one_by_one()
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await batches.aclose()


class Marking:
    """Marks batches at their source beside what follows, and counts what the source says it has marked.

    What is committed while a mark is under way is marked with the next, all of it at once: one source looks through all
    of its documents for each mark, however many it is for.
    """

    def __init__(self, opened: Opened, run: str, tally: Tally, *, marks_rejected: bool) -> None:
        """Take what is counted in; `marks_rejected` is the source's (`Source`)."""
        self._opened = opened
        self._run = run
        self._tally = tally
        self._marks_rejected = marks_rejected
        self._taken: list[str] = []
        self._refused: list[str] = []
        self._work: asyncio.Task[None] | None = None

    async def begin(self, taken: Sequence[str], refused: Sequence[str]) -> None:
        """Have a batch marked that is committed; returns later where much is waiting. Raises what went wrong before."""
        self._taken += taken
        if self._marks_rejected:
            self._refused += refused
        if self._work is not None and (self._work.done() or len(self._taken) + len(self._refused) >= WAITING_MAX):
            await self.done()
        if self._work is None:
            self._work = asyncio.create_task(self._mark(), name="reading: marks")

    async def done(self) -> None:
        """Return when all is marked; raises what went wrong."""
        work, self._work = self._work, None
        if work is not None:
            await work

    async def _mark(self) -> None:
        while self._taken or self._refused:
            taken, self._taken = self._taken, []
            refused, self._refused = self._refused, []
            await self._acknowledge(taken, "processed")
            await self._acknowledge(refused, "rejected")

    async def _acknowledge(self, keys: Sequence[str], status: Status) -> None:
        if keys:
            marked = await self._opened.acknowledge(keys, status, self._run)
            self._tally.marked += marked
