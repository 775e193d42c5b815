"""The spool's bounds: what is too much or too old is thinned, and a row of table `gap` says what is missing."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeAlias

from homelab_agent.core.clock import MICROSECOND, Clock, microseconds, moment
from homelab_agent.core.spool import thinning
from homelab_agent.core.spool.parcel import Parcel, Row, Waybill, pack
from homelab_agent.core.spool.shelf import TRANSACTION_PARCELS, Disk, Memory
from homelab_agent.core.state import StateUnavailable
from homelab_agent.core.worker import Worker

AGING_SECONDS = 3600.0
"""How often what is older than `max_age` is thinned: each time by half, until nothing is left of it."""

SHARE = 8
"""Observations may have one part in so many of the bound, however much the promises take."""

NewParcel: TypeAlias = Callable[[Row], Parcel]
Decide: TypeAlias = Callable[[Sequence[Waybill]], list[Waybill]]


class Bounds:
    """Keeps memory and disk together within `max_bytes` and, roughly, `max_age` seconds.

    `thinned` counts the rows that had to go since the start, `thinned_at` is when the last ones went.
    """

    def __init__(
        self,
        memory: Memory,
        disk: Disk,
        worker: Worker,
        clock: Clock,
        *,
        host: str,
        max_bytes: int,
        max_age: float,
    ) -> None:
        self._memory = memory
        self._disk = disk
        self._worker = worker
        self._clock = clock
        self._host = host
        self._max_bytes = max_bytes
        self._max_age = timedelta(seconds=max_age)
        self._aging_due = clock.read().monotonic + AGING_SECONDS
        self.thinned = 0
        self.thinned_at: datetime | None = None

    async def keep(self, busy: Container[int], new_promise: NewParcel) -> None:
        """Thin what is over a bound; leave alone the parcels that are `busy`.

        `new_promise` makes the parcel for a row of `gap`.
        """
        allowance = max(self._max_bytes - self._disk.found.promises.size, self._max_bytes // SHARE)
        size = self._disk.found.observations.size + self._memory.stock.size
        if size > allowance:

            def decide(waybills: Sequence[Waybill]) -> list[Waybill]:
                elsewhere = size - sum(waybill.size for waybill in waybills)
                return thinning.surplus(waybills, max(allowance - elsewhere, self._max_bytes // SHARE))

            await self._thin(f"the spool was full ({self._max_bytes} bytes)", decide, busy, new_promise)
        now = self._clock.read()
        if now.monotonic >= self._aging_due:
            self._aging_due = now.monotonic + AGING_SECONDS
            too_old = microseconds(now.wall - self._max_age)
            waiting_since = [time for time in (self._disk.found.oldest, self._memory.oldest) if time is not None]
            if waiting_since and microseconds(min(waiting_since)) < too_old:
                cause = f"the spool was not emptied for {self._max_age.total_seconds():g} s"
                await self._thin(cause, lambda waybills: thinning.aged(waybills, too_old), busy, new_promise)
            if self._disk.found.rejected:
                with suppress(StateUnavailable):
                    await self._disk.forget_rejected(now.wall)

    async def _thin(self, cause: str, decide: Decide, busy: Container[int], new_promise: NewParcel) -> None:
        try:
            waybills = [*await self._disk.waybills(), *self._memory.waybills()]
            leaving = await self._worker.run(_decide, decide, waybills, busy)
            await self._cut_disk([waybill for waybill in leaving if waybill.id not in self._memory], cause, new_promise)
        except StateUnavailable:
            # What is on disk cannot go now: what is in memory must make room alone.
            leaving = await self._worker.run(_decide, decide, self._memory.waybills(), busy)
        self._cut_memory([waybill for waybill in leaving if waybill.id in self._memory], cause, new_promise)

    async def _cut_disk(self, leaving: Sequence[Waybill], cause: str, new_promise: NewParcel) -> None:
        for first in range(0, len(leaving), TRANSACTION_PARCELS):
            part = leaving[first : first + TRANSACTION_PARCELS]
            gap = pack(new_promise(self._gap(part, cause)))
            await self._disk.remove([waybill.id for waybill in part], instead=[gap])
            self._count(part)

    def _cut_memory(self, leaving: Sequence[Waybill], cause: str, new_promise: NewParcel) -> None:
        if leaving:
            self._memory.add(new_promise(self._gap(leaving, cause)))
            self._memory.remove(waybill.id for waybill in leaving)
            self._count(leaving)

    def _gap(self, missing: Sequence[Waybill], cause: str) -> Row:
        first = min(missing, key=lambda waybill: waybill.at)
        # Two gaps may begin with parcels of the same time: below the millisecond the parcel's id tells them apart.
        from_at = moment(first.at) + first.id % 1000 * MICROSECOND
        return Row(
            "gap",
            ("host", "from_at", "cause"),
            {
                "host": self._host,
                "from_at": from_at,
                "to_at": max(from_at, moment(max(waybill.until for waybill in missing))),
                "cause": cause,
                "rows": sum(waybill.rows for waybill in missing),
            },
            from_at,
        )

    def _count(self, gone: Sequence[Waybill]) -> None:
        self.thinned += sum(waybill.rows for waybill in gone)
        self.thinned_at = self._clock.read().wall


def _decide(decide: Decide, waybills: Sequence[Waybill], busy: Container[int]) -> list[Waybill]:
    return decide([waybill for waybill in waybills if not waybill.promise and waybill.id not in busy])
