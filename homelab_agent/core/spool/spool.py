"""Rows on their way to PostgreSQL: in order, bounded, and none that was promised ever lost.

Observations wait in memory and go to disk only when they are not taken: when they should have been, when PostgreSQL
does not take them, and at the end. So while PostgreSQL takes everything, nothing is written here at all.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

from homelab_agent.core.clock import Clock, about, microseconds
from homelab_agent.core.errors import describe
from homelab_agent.core.health import Check, Finding
from homelab_agent.core.spool.bounds import Bounds
from homelab_agent.core.spool.parcel import Packed, Parcel, ParcelDamaged, Row, Scalar, pack_all, unpack_all
from homelab_agent.core.spool.shelf import TRANSACTION_PARCELS, Disk, Memory
from homelab_agent.core.spool.status import SpoolStatus, judged
from homelab_agent.core.spool.table import REJECTED_MAX, Rejected
from homelab_agent.core.state import State, StateUnavailable, Work
from homelab_agent.core.worker import Worker

__all__ = ["Batch", "Row", "Scalar", "Spool", "SpoolStatus"]

SPILL_SECONDS = 50.0
TEND_SECONDS = 10.0
LATE_SECONDS = 20.0
"""An observation goes to disk when it has waited so long, or so much longer than said; how often that is looked at."""

LOOSE_ROWS_MAX = 20_000
"""More rows than this are not held as Python objects, which take about 2 KB each."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The oldest parcels, in order."""

    parcels: tuple[Parcel, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """Their rows, in order."""
        return tuple(chain.from_iterable(parcel.rows for parcel in self.parcels))


class Spool:
    """The one way of every fact to PostgreSQL.

    One shipper takes: `take`, then `done` or `failed`. The order is that of the puts, across memory and disk and
    across a restart; only while the disk cannot be read is what is in memory shipped before what is there.

    At most `max_bytes` wait, for about `max_age` seconds at most. Over either bound the oldest observations are
    thinned, never a promise, and a row of table `gap` says what is missing. A disk that takes nothing leaves the
    observations in memory, under the same bound, and is tried again.
    """

    def __init__(self, state: State, clock: Clock, *, host: str, max_bytes: int, max_age: float) -> None:
        self._clock = clock
        self._memory = Memory()
        self._disk = Disk(state)
        self._worker = Worker("spool")
        self._bounds = Bounds(
            self._memory, self._disk, self._worker, clock, host=host, max_bytes=max_bytes, max_age=max_age
        )
        self.spill_after = SPILL_SECONDS
        self._last_id = 0
        self._in_flight: frozenset[int] = frozenset()
        self._shipped: set[int] = set()  # in PostgreSQL, and still on disk
        self._refused: list[Rejected] = []  # not written down yet
        self._on_disk_since: float | None = None  # monotonic; since when it was never empty
        self._lock = asyncio.Lock()
        self._filled = asyncio.Event()
        self._unfinished: set[asyncio.Task[None]] = set()

    def expect(self, seconds: float) -> None:
        """Let observations wait in memory for so long, as they are taken within so many seconds."""
        self.spill_after = max(SPILL_SECONDS, seconds + LATE_SECONDS)

    async def put(self, rows: Sequence[Row], *, promise: bool = False) -> None:
        """Take rows that travel together, in one transaction.

        A promise is on disk when this returns; it raises `StateUnavailable` when that cannot be, and TypeError or
        ValueError for a value that PostgreSQL's types have no place for.
        """
        if not rows:
            return
        if promise:
            await self.promise(lambda _: rows)
            return
        with suppress(StateUnavailable):
            await self._survey()  # once: an id must be higher than those of an earlier run
        self._memory.add(self._parcel(rows))
        self._filled.set()
        if self._memory.loose_rows > LOOSE_ROWS_MAX:
            await self.tend()

    async def promise(self, work: Work[Sequence[Row]]) -> None:
        """Do `work` (see `State.write`) and, in the same transaction, put the rows that it returns as a promise."""
        await self._finish(self._promise(work))

    async def take(self, max_rows: int = 5000) -> Batch | None:
        """Return the oldest parcels, about `max_rows` rows and at least one parcel; None when nothing waits.

        They stay until `done`; what cannot be read back is put with the rejected.
        """
        async with self._lock:
            while chosen := await self._choose(max_rows):
                is_work = any(isinstance(parcel, Packed) for parcel in chosen)
                parcels = await self._worker.run(unpack_all, chosen) if is_work else unpack_all(chosen)
                whole = tuple(parcel for parcel in parcels if isinstance(parcel, Parcel))
                if len(whole) < len(chosen):
                    await self._set_aside_damaged(chosen, parcels)
                if whole:
                    self._in_flight = frozenset(parcel.id for parcel in whole)
                    return Batch(whole)
            return None

    async def done(self, batch: Batch, rejected: Sequence[tuple[Row, str]] = ()) -> None:
        """PostgreSQL has the batch, but for the `rejected` rows, each with the reason it was refused for."""
        await self._finish(self._done(batch, rejected))

    async def failed(self, batch: Batch) -> None:
        """PostgreSQL did not take the batch: keep it, and bring to disk what is in memory."""
        await self._finish(self._failed(batch))

    async def wait(self) -> None:
        """Return when something waits to be taken."""
        with suppress(StateUnavailable):
            await self._survey()
        await self._filled.wait()

    async def run(self) -> None:
        """Keep the spool in order until cancelled: see `tend`."""
        while True:
            await self.tend()
            await self._clock.sleep(about(self._clock.read(), TEND_SECONDS))

    async def tend(self) -> None:
        """Bring to disk what has waited long enough, finish what the disk did not take, keep the bounds."""
        await self._finish(self._tend())

    def status(self) -> SpoolStatus:
        """Return how much waits."""
        found = self._disk.found
        times = [time for time in (found.oldest, self._memory.oldest) if time is not None]
        since = [time for time in (self._on_disk_since, self._memory.since) if time is not None]
        return SpoolStatus(
            rows_memory=self._memory.stock.rows,
            rows_disk=self._disk.rows,
            bytes_disk=self._disk.size,
            oldest=min(times, default=None),
            waited=self._clock.read().monotonic - min(since) if since else None,
            thinned=self._bounds.thinned,
            rejected=found.rejected + len(self._refused),
        )

    def checks(self) -> Sequence[Check]:
        """Return the check "spool"."""
        return [Check("spool", self._probe)]

    async def close(self) -> None:
        """Bring everything to disk."""
        await asyncio.gather(*self._unfinished, return_exceptions=True)
        await self._finish(self._close())
        self._worker.close()

    # Putting and shipping.

    def _parcel(self, rows: Sequence[Row], *, promise: bool = False) -> Parcel:
        """Return a parcel whose id is higher than any before it, also than those of an earlier run."""
        now = self._clock.read()
        # Made of the time, it is higher also when the disk cannot be read and nobody knows the last one there.
        self._last_id = max(self._last_id + 1, self._disk.found.last_id + 1, microseconds(now.wall))
        return Parcel(self._last_id, promise, tuple(rows), now.monotonic)

    async def _promise(self, work: Work[Sequence[Row]]) -> None:
        await self._survey()
        await self._disk.promise(self._parcel([], promise=True), work)
        self._see_whether_filled()

    async def _choose(self, max_rows: int) -> list[Parcel | Packed]:
        """Return the oldest parcels of memory and disk together."""
        # What is put while the disk is read comes later, but for what is older than a promise that was found there.
        newest = self._last_id
        on_disk: list[Packed] = []
        with suppress(StateUnavailable):
            on_disk = await self._disk.first(self._shipped, max_rows)
        bodies = {parcel.waybill.id: parcel for parcel in on_disk}
        newest = max([newest, *bodies])
        in_memory = [waybill for waybill in self._memory.waybills() if waybill.id <= newest]
        chosen: list[Parcel | Packed] = []
        rows = 0
        for waybill in heapq.merge((parcel.waybill for parcel in on_disk), in_memory):
            chosen.append(bodies.get(waybill.id) or self._memory.get(waybill.id))
            rows += waybill.rows
            if rows >= max_rows:
                break
        return chosen

    async def _set_aside_damaged(
        self, chosen: Sequence[Parcel | Packed], read: Sequence[Parcel | ParcelDamaged]
    ) -> None:
        now = self._clock.read().wall
        for before, after in zip(chosen, read, strict=True):
            if isinstance(before, Packed) and isinstance(after, ParcelDamaged):
                reason = f"a parcel of {before.waybill.rows} rows: {after}"
                self._refused.append(Rejected("", reason, before.body, now))
                self._leave([before.waybill.id])
        await self._settle()

    async def _done(self, batch: Batch, rejected: Sequence[tuple[Row, str]]) -> None:
        async with self._lock:
            now = self._clock.read().wall
            self._refused += (Rejected.of(row, reason, now) for row, reason in rejected)
            self._leave(parcel.id for parcel in batch.parcels)
            self._in_flight = frozenset()
            await self._settle()

    async def _failed(self, batch: Batch) -> None:
        async with self._lock:
            self._in_flight -= {parcel.id for parcel in batch.parcels}
            await self._spill()

    def _leave(self, numbers: Iterable[int]) -> None:
        """Let parcels go: from memory at once, from the disk with the next `_settle`."""
        for number in numbers:
            if number in self._memory:
                self._memory.remove([number])
            else:
                self._shipped.add(number)

    async def _settle(self) -> None:
        """Bring to disk what has left and what was refused; where that fails it is kept for the next time.

        Both in one transaction: what was refused is still a parcel or is written down, whatever happens meanwhile.
        """
        with suppress(StateUnavailable):
            while self._shipped or self._refused:
                part, refused = sorted(self._shipped)[:TRANSACTION_PARCELS], tuple(self._refused)
                await self._disk.remove(part, refused=refused)
                self._shipped.difference_update(part)
                del self._refused[: len(refused)]
        del self._refused[:-REJECTED_MAX]
        self._see_whether_filled()

    # Tending.

    async def _tend(self) -> None:
        async with self._lock:
            with suppress(StateUnavailable):
                await self._survey()
            if self._is_spill_due():
                await self._spill()
            if self._shipped or self._refused:
                await self._settle()
            await self._bounds.keep(self._in_flight | self._shipped, self._gap)
            self._see_whether_filled()

    async def _close(self) -> None:
        async with self._lock:
            await self._spill()
            await self._settle()

    def _is_spill_due(self) -> bool:
        oldest = self._memory.oldest_loose
        return (
            self._memory.stock.rows > self._memory.loose_rows  # what the disk did not take
            or self._memory.loose_rows > LOOSE_ROWS_MAX
            or (oldest is not None and self._clock.read().monotonic - oldest >= self.spill_after)
        )

    async def _spill(self) -> None:
        """Bring to disk what is in memory; what it does not take stays, packed."""
        loose = self._memory.loose()
        for parcel, outcome in zip(loose, await self._worker.run(pack_all, loose), strict=True):
            if isinstance(outcome, Packed):
                self._memory.replace(outcome)
            else:
                now = self._clock.read().wall
                self._refused += (Rejected.of(row, describe(outcome), now) for row in parcel.rows)
                self._memory.remove([parcel.id])
        packed, since = self._memory.packed(), self._memory.since
        with suppress(StateUnavailable):
            for first in range(0, len(packed), TRANSACTION_PARCELS):
                part = packed[first : first + TRANSACTION_PARCELS]
                await self._disk.store(part)
                self._memory.remove(parcel.waybill.id for parcel in part)
                if since is not None:
                    before = self._on_disk_since
                    self._on_disk_since = since if before is None else min(since, before)

    def _gap(self, row: Row) -> Parcel:
        return self._parcel([row], promise=True)

    async def _survey(self) -> None:
        await self._disk.survey()
        self._see_whether_filled()

    def _see_whether_filled(self) -> None:
        is_on_disk = self._disk.parcels > len(self._shipped)
        if not is_on_disk:
            self._on_disk_since = None
        elif self._on_disk_since is None:
            self._on_disk_since = self._clock.read().monotonic
        if self._memory.stock.rows or is_on_disk:
            self._filled.set()
        else:
            self._filled.clear()

    async def _finish(self, work: Coroutine[None, None, None]) -> None:
        """Do `work` to its end, also when who waits for it is cancelled: half of it would lose or double rows."""
        task = asyncio.get_running_loop().create_task(work)
        self._unfinished.add(task)
        task.add_done_callback(self._finished)
        await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._unfinished.discard(task)
        if not task.cancelled():
            task.exception()  # whoever still waits is told; nobody else has to be

    async def _probe(self) -> Finding:
        trouble, found, thinned_at = self._disk.trouble, self._disk.found, self._bounds.thinned_at
        now = self._clock.read().wall
        return judged(self.status(), trouble, thinned_at=thinned_at, rejected_at=found.rejected_at, now=now)
