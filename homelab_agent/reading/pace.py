"""What need not wait for one another goes on side by side: the next batch comes, and the last is marked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

from homelab_agent.reading.document import Batch
from homelab_agent.reading.source import Opened


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
    """Marks batches at their source, one at a time, beside what follows; `marked` counts the documents."""

    def __init__(self, opened: Opened, run: str, *, marks_rejected: bool) -> None:
        self.marked = 0
        self._opened = opened
        self._run = run
        self._marks_rejected = marks_rejected
        self._work: asyncio.Task[None] | None = None

    async def begin(self, taken: Sequence[str], refused: Sequence[str]) -> None:
        """Have a batch marked that is committed; the one before it is done then. Raises what went wrong with that."""
        await self.done()
        self._work = asyncio.create_task(self._mark(taken, refused), name="reading: marks")

    async def done(self) -> None:
        """Return when all is marked; raises what went wrong."""
        work, self._work = self._work, None
        if work is not None:
            await work

    async def _mark(self, taken: Sequence[str], refused: Sequence[str]) -> None:
        if taken:
            self.marked += await self._opened.acknowledge(taken, "processed", self._run)
        if refused and self._marks_rejected:
            self.marked += await self._opened.acknowledge(refused, "rejected", self._run)
