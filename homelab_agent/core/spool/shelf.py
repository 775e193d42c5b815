"""The two places where parcels wait: memory and state.db, each with a count of what lies there."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from homelab_agent.core.clock import microseconds, moment
from homelab_agent.core.spool import table as spooltable
from homelab_agent.core.spool.parcel import Packed, Parcel, Row, Waybill, footprint, pack
from homelab_agent.core.spool.table import Rejected, Stock, Survey
from homelab_agent.core.state import State, StateUnavailable, Work

T = TypeVar("T")

TRANSACTION_PARCELS = 500
"""So many parcels are written or removed in one transaction, so that no promise waits long behind them."""

LOOSE_ROW_BYTES = 256
"""What a row that is not packed yet will about take up on disk."""


class Memory:
    """The parcels that are not on disk, in order of id."""

    def __init__(self) -> None:
        self._parcels: dict[int, Parcel | Packed] = {}
        self._waybills: dict[int, Waybill] = {}
        self._since: dict[int, float] = {}
        self.stock = Stock()
        self.loose_rows = 0

    def __contains__(self, number: int) -> bool:
        return number in self._parcels

    @property
    def oldest(self) -> datetime | None:
        """The time of the first parcel."""
        return next((moment(waybill.at) for waybill in self._waybills.values()), None)

    @property
    def since(self) -> float | None:
        """The monotonic time at which the first parcel was put."""
        return next(iter(self._since.values()), None)

    @property
    def oldest_loose(self) -> float | None:
        """The monotonic time at which the first parcel that is not packed was put."""
        return next((parcel.since for parcel in self._parcels.values() if isinstance(parcel, Parcel)), None)

    def get(self, number: int) -> Parcel | Packed:
        """Return one parcel."""
        return self._parcels[number]

    def add(self, parcel: Parcel) -> None:
        """Take a parcel as it came; its id is higher than any before it."""
        times = [microseconds(row.at) for row in parcel.rows]
        rows = len(parcel.rows)
        size = footprint(rows * LOOSE_ROW_BYTES)
        self._since[parcel.id] = parcel.since
        self._set(parcel, Waybill(parcel.id, parcel.promise, min(times), max(times), rows, size))
        self.loose_rows += rows

    def replace(self, packed: Packed) -> None:
        """Hold a parcel packed from now on, in its place."""
        self._count_out(packed.waybill.id)
        self._set(packed, packed.waybill)

    def remove(self, numbers: Iterable[int]) -> None:
        """Forget parcels."""
        for number in numbers:
            self._count_out(number)
            del self._parcels[number], self._waybills[number], self._since[number]

    def waybills(self) -> list[Waybill]:
        """Return what is known of each parcel."""
        return list(self._waybills.values())

    def loose(self) -> list[Parcel]:
        """Return the parcels that are not packed."""
        return [parcel for parcel in self._parcels.values() if isinstance(parcel, Parcel)]

    def packed(self) -> list[Packed]:
        """Return the parcels that are packed."""
        return [parcel for parcel in self._parcels.values() if isinstance(parcel, Packed)]

    def _set(self, parcel: Parcel | Packed, waybill: Waybill) -> None:
        self._parcels[waybill.id] = parcel
        self._waybills[waybill.id] = waybill
        self.stock.add([waybill])

    def _count_out(self, number: int) -> None:
        self.stock.remove([self._waybills[number]])
        if isinstance(self._parcels[number], Parcel):
            self.loose_rows -= self._waybills[number].rows


class Disk:
    """The parcels in state.db; every method raises `StateUnavailable`, and `trouble` tells of it until it works."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._surveyed: int | None = None
        self._stores = 0
        self.found = Survey(Stock(), Stock(), None, 0, 0, None)
        self._troubles: dict[str, StateUnavailable] = {}

    @property
    def trouble(self) -> StateUnavailable | None:
        """Why the last write, or else the last read, did not work; None when both did."""
        return self._troubles.get("write") or self._troubles.get("read")

    @property
    def parcels(self) -> int:
        """How many parcels lie there."""
        return self.found.promises.parcels + self.found.observations.parcels

    @property
    def rows(self) -> int:
        """How many rows lie there."""
        return self.found.promises.rows + self.found.observations.rows

    @property
    def size(self) -> int:
        """How many bytes they take up."""
        return self.found.promises.size + self.found.observations.size

    async def survey(self) -> Survey:
        """Return what lies there; it is counted when the database has been opened anew, else it is known."""
        while self._surveyed != self._state.openings or self._surveyed is None:
            with suppress(StateUnavailable):
                await self._state.write(_nothing)  # opens the database, where that has become possible
            openings, stores = self._state.openings, self._stores
            found = await self._read(spooltable.survey)
            if stores == self._stores:  # else something came meanwhile that may or may not be in the count
                self.found, self._surveyed = found, openings
        return self.found

    async def promise(self, parcel: Parcel, work: Work[Sequence[Row]]) -> None:
        """Do `work` and put there, as this parcel, the rows that it returns.

        Raises TypeError or ValueError for what cannot be packed.
        """

        def both(connection: sqlite3.Connection) -> list[Waybill]:
            rows = tuple(work(connection))
            if not rows:
                return []
            packed = pack(replace(parcel, rows=rows))
            spooltable.store(connection, [packed])
            return [packed.waybill]

        self._count_in(await self._write(both))

    async def store(self, parcels: Sequence[Packed]) -> None:
        """Put packed parcels there."""
        await self._write(lambda connection: spooltable.store(connection, parcels))
        self._count_in([parcel.waybill for parcel in parcels])

    async def first(self, passing: Container[int], max_rows: int) -> list[Packed]:
        """Return the oldest parcels, passing over some, until they hold `max_rows`."""
        await self.survey()
        if not self.rows:
            return []
        return await self._read(lambda connection: spooltable.first(connection, passing, max_rows))

    async def waybills(self) -> list[Waybill]:
        """Return what is known of each parcel, in order."""
        return await self._read(lambda connection: list(spooltable.waybills(connection)))

    async def remove(
        self, numbers: Iterable[int], *, instead: Sequence[Packed] = (), refused: Sequence[Rejected] = ()
    ) -> None:
        """Take parcels off, and in the same transaction put others there and write down what was refused."""

        def work(connection: sqlite3.Connection) -> tuple[list[Waybill], datetime | None, int]:
            kept = self.found.rejected
            if refused:
                kept = spooltable.reject(connection, refused, now=max(one.at for one in refused))
            gone = spooltable.remove(connection, numbers)
            spooltable.store(connection, instead)
            return gone, spooltable.oldest(connection), kept

        gone, oldest, self.found.rejected = await self._write(work)
        for waybill in gone:
            (self.found.promises if waybill.promise else self.found.observations).remove([waybill])
        self._count_in([parcel.waybill for parcel in instead])
        self.found.oldest = oldest
        self.found.rejected_at = max((one.at for one in refused), default=self.found.rejected_at)

    async def forget_rejected(self, now: datetime) -> None:
        """Drop what was refused so long ago that it is past keeping."""
        self.found.rejected = await self._write(lambda connection: spooltable.reject(connection, [], now=now))

    def _count_in(self, waybills: Iterable[Waybill]) -> None:
        self._stores += 1
        for waybill in waybills:
            (self.found.promises if waybill.promise else self.found.observations).add([waybill])
            at = moment(waybill.at)
            self.found.oldest = at if self.found.oldest is None else min(at, self.found.oldest)

    async def _read(self, work: Work[T]) -> T:
        return await self._watched("read", self._state.read(work))

    async def _write(self, work: Work[T]) -> T:
        await self.survey()
        return await self._watched("write", self._state.write(work))

    async def _watched(self, what: str, outcome: Awaitable[T]) -> T:
        try:
            result = await outcome
        except StateUnavailable as error:
            self._troubles[what] = error
            raise
        self._troubles.pop(what, None)
        return result


def _nothing(_: sqlite3.Connection) -> None:
    """Write nothing."""
