"""The tables `spool` and `rejected` of state.db; every function is a State's work, or part of one."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from homelab_agent.core.clock import microseconds, moment
from homelab_agent.core.spool.parcel import Packed, Row, Waybill

REJECTED_KEEP = timedelta(days=30)
REJECTED_MAX = 10_000
"""What was refused is kept so long, and at most so many of it."""


@dataclass(slots=True)
class Stock:
    """How much lies somewhere: `size` in bytes."""

    parcels: int = 0
    rows: int = 0
    size: int = 0

    def add(self, waybills: Iterable[Waybill]) -> None:
        """Count parcels in."""
        for waybill in waybills:
            self.parcels += 1
            self.rows += waybill.rows
            self.size += waybill.size

    def remove(self, waybills: Iterable[Waybill]) -> None:
        """Count parcels out."""
        for waybill in waybills:
            self.parcels -= 1
            self.rows -= waybill.rows
            self.size -= waybill.size


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that PostgreSQL refused, as JSON; or a parcel that could not be read back, as its bytes."""

    table: str
    reason: str
    content: str | bytes
    at: datetime

    @classmethod
    def of(cls, row: Row, reason: str, at: datetime) -> Rejected:
        """Return the record of a refused row."""
        content = {"key": row.key, "values": row.values, "at": row.at}
        return cls(row.table, reason, json.dumps(content, default=str), at)


@dataclass(slots=True)
class Survey:
    """What lies on disk: parcels of either kind, the first one's time, the last one's id; and what was refused."""

    promises: Stock
    observations: Stock
    oldest: datetime | None
    last_id: int
    rejected: int
    rejected_at: datetime | None


def store(connection: sqlite3.Connection, parcels: Iterable[Packed]) -> None:
    """Put parcels on disk; one that is there already stays as it is."""
    connection.executemany(
        "INSERT INTO spool (id, promise, at, until, rows, size, body) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO NOTHING",
        ((*parcel.waybill, parcel.body) for parcel in parcels),
    )


def waybills(connection: sqlite3.Connection) -> Iterator[Waybill]:
    """Yield what is known of each parcel, in order."""
    found = connection.execute("SELECT id, promise, at, until, rows, size FROM spool ORDER BY id")
    return (Waybill(*row) for row in found)


def first(connection: sqlite3.Connection, passing: Container[int], max_rows: int) -> list[Packed]:
    """Return the oldest parcels, passing over some, until they hold `max_rows`."""
    chosen: list[Packed] = []
    rows = 0
    for *waybill, body in connection.execute("SELECT id, promise, at, until, rows, size, body FROM spool ORDER BY id"):
        parcel = Packed(Waybill(*waybill), body)
        if parcel.waybill.id in passing:
            continue
        chosen.append(parcel)
        rows += parcel.waybill.rows
        if rows >= max_rows:
            break
    return chosen


def remove(connection: sqlite3.Connection, numbers: Iterable[int]) -> list[Waybill]:
    """Take parcels off the disk; return what was there."""
    found = connection.execute(
        "DELETE FROM spool WHERE id IN (SELECT value FROM json_each(?)) RETURNING id, promise, at, until, rows, size",
        (json.dumps(list(numbers)),),
    )
    return [Waybill(*row) for row in found.fetchall()]


def survey(connection: sqlite3.Connection) -> Survey:
    """Return what lies on disk."""
    promises, observations = Stock(), Stock()
    last = 0
    for waybill in waybills(connection):
        (promises if waybill.promise else observations).add([waybill])
        last = waybill.id
    count, newest = connection.execute("SELECT count(*), max(rejected_at) FROM rejected").fetchone()
    return Survey(promises, observations, oldest(connection), last, count, newest and moment(newest))


def oldest(connection: sqlite3.Connection) -> datetime | None:
    """Return the time of the first parcel."""
    return next((moment(waybill.at) for waybill in waybills(connection)), None)


def reject(connection: sqlite3.Connection, refused: Iterable[Rejected], *, now: datetime) -> int:
    """Write down what was refused, drop what is past keeping, return how many are kept."""
    connection.executemany(
        "INSERT INTO rejected (rejected_at, table_name, reason, content) VALUES (?, ?, ?, ?)",
        ((microseconds(one.at), one.table, one.reason, one.content) for one in refused),
    )
    connection.execute("DELETE FROM rejected WHERE rejected_at < ?", (microseconds(now - REJECTED_KEEP),))
    connection.execute("DELETE FROM rejected WHERE id <= (SELECT max(id) FROM rejected) - ?", (REJECTED_MAX,))
    return int(connection.execute("SELECT count(*) FROM rejected").fetchone()[0])


def list_rejected(connection: sqlite3.Connection, limit: int = 50) -> list[Rejected]:
    """Return what was refused last, newest first."""
    found = connection.execute(
        "SELECT table_name, reason, content, rejected_at FROM rejected ORDER BY id DESC LIMIT ?", (limit,)
    )
    return [Rejected(table, reason, content, moment(at)) for table, reason, content, at in found]
