"""Rows on their way to PostgreSQL, and how those of one call (a parcel) are written to disk.

A packed parcel is JSON, compressed with zlib at level 1: `[FORMAT, [group, ...]]`. Consecutive rows of one
shape (table, key, columns) are a group `[table, key, names, kinds, ats, columns]`; values stand column by
column, so that names are written once and like stands beside like. Times are whole microseconds since 1970 in
UTC.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, repeat
from typing import Any, NamedTuple, TypeAlias

from homelab_agent.core.clock import microseconds, moment
from homelab_agent.core.errors import AgentError

Scalar: TypeAlias = bool | int | float | str | datetime | list[Any] | dict[str, Any] | None

FORMAT = 1
PLAIN, TIMES, MIXED = 0, 1, 2
"""What a column holds: no datetime, nothing but datetimes and nulls, or both (each value with a flag)."""

PAGE_BYTES = 4096
_PAGE_ROOM = PAGE_BYTES - 40
_CELL_BYTES = 40


class ParcelDamaged(AgentError):
    """A parcel of the spool cannot be read back."""

    repair = "Look for disk errors: `journalctl -k -p err`."


@dataclass(frozen=True, slots=True)
class Row:
    """One row for PostgreSQL: `key` names the columns that make it unique, `at` is when it happened."""

    table: str
    key: tuple[str, ...]
    values: Mapping[str, Scalar]
    at: datetime

    def __post_init__(self) -> None:
        if not self.key or not self.values.keys() >= set(self.key):
            message = f"a row of {self.table} needs a value for each column of its key {self.key}"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Parcel:
    """The rows of one `put`, which travel together, in order of `id`; `since` is the put's monotonic time."""

    id: int
    promise: bool
    rows: tuple[Row, ...]
    since: float = 0.0


class Waybill(NamedTuple):
    """A parcel without its rows; times in microseconds since 1970, `size` in bytes on disk."""

    id: int
    promise: bool
    at: int
    until: int
    rows: int
    size: int


@dataclass(frozen=True, slots=True)
class Packed:
    """A parcel as it lies on disk."""

    waybill: Waybill
    body: bytes


def pack(parcel: Parcel) -> Packed:
    """Return `parcel` as bytes; raises TypeError or ValueError for a value that has no place in JSON."""
    body = encode(parcel.rows)
    times = [microseconds(row.at) for row in parcel.rows]
    waybill = Waybill(parcel.id, parcel.promise, min(times), max(times), len(parcel.rows), footprint(len(body)))
    return Packed(waybill, body)


def unpack(packed: Packed) -> Parcel:
    """Return the parcel; raises `ParcelDamaged`."""
    return Parcel(packed.waybill.id, packed.waybill.promise, decode(packed.body))


def pack_all(parcels: Sequence[Parcel]) -> list[Packed | Exception]:
    """Pack each; one that cannot be gives the reason."""
    outcomes: list[Packed | Exception] = []
    for parcel in parcels:
        try:
            outcomes.append(pack(parcel))
        except (TypeError, ValueError, OverflowError) as error:
            outcomes.append(error)
    return outcomes


def unpack_all(parcels: Sequence[Parcel | Packed]) -> list[Parcel | ParcelDamaged]:
    """Unpack what is packed; one that is damaged gives the reason."""
    outcomes: list[Parcel | ParcelDamaged] = []
    for parcel in parcels:
        try:
            outcomes.append(unpack(parcel) if isinstance(parcel, Packed) else parcel)
        except ParcelDamaged as error:
            outcomes.append(error)
    return outcomes


def footprint(length: int) -> int:
    """Return the bytes of disk that a body of `length` bytes occupies in SQLite's pages.

    A page holds whole cells (https://www.sqlite.org/fileformat2.html, section 1.6); what does not fit in one
    goes on in pages of its own.
    """
    cell = length + _CELL_BYTES
    if cell <= _PAGE_ROOM:
        return PAGE_BYTES // (_PAGE_ROOM // cell)
    return PAGE_BYTES * -(-cell // _PAGE_ROOM)


def encode(rows: Sequence[Row]) -> bytes:
    """Return `rows` as the body of a parcel."""
    groups = [_encode_group(shape, list(run)) for shape, run in groupby(rows, _shape)]
    text = json.dumps([FORMAT, groups], separators=(",", ":"))
    return zlib.compress(text.encode(), 1)


def decode(body: bytes, *, only: Collection[str] | None = None) -> tuple[Row, ...]:
    """Return the rows of a body, or those of some tables, in order, every time in UTC; raises `ParcelDamaged`."""
    try:
        text = zlib.decompress(body)
        if only is not None and not any(f'"{table}"'.encode() in text for table in only):
            return ()  # looking for a name is much faster than reading samples of no interest
        form, groups = json.loads(text)
        if form != FORMAT:
            raise ParcelDamaged(cause=f"its format is {form}, this release reads {FORMAT}")
        return tuple(row for group in groups if only is None or group[0] in only for row in _decode_group(*group))
    except (zlib.error, ValueError, TypeError, OverflowError) as error:
        raise ParcelDamaged(cause=error) from error


_Shape: TypeAlias = tuple[str, tuple[str, ...], tuple[str, ...]]


def _shape(row: Row) -> _Shape:
    return row.table, row.key, tuple(row.values)


def _encode_group(shape: _Shape, run: list[Row]) -> list[Any]:
    table, key, names = shape
    kinds: list[int] = []
    columns: list[Sequence[object]] = []
    for column in zip(*(row.values.values() for row in run), strict=True):
        kind, values = _encode_column(column)
        kinds.append(kind)
        columns.append(values)
    ats = [microseconds(row.at) for row in run]
    same = ats.count(ats[0]) == len(ats)
    return [table, key, names, kinds, ats[:1] if same else ats, columns]


def _encode_column(column: Sequence[Scalar]) -> tuple[int, Sequence[object]]:
    times = sum(isinstance(value, datetime) for value in column)
    if not times:
        return PLAIN, column
    if times + column.count(None) == len(column):
        return TIMES, [microseconds(value) if isinstance(value, datetime) else None for value in column]
    return MIXED, [[1, microseconds(value)] if isinstance(value, datetime) else [0, value] for value in column]


def _decode_group(
    table: str, key: list[str], names: list[str], kinds: list[int], ats: list[int], columns: list[list[Any]]
) -> Iterator[Row]:
    for number, kind in enumerate(kinds):
        if kind == TIMES:
            columns[number] = [None if value is None else moment(value) for value in columns[number]]
        elif kind == MIXED:
            columns[number] = [moment(value) if is_time else value for is_time, value in columns[number]]
    key_columns = tuple(key)
    moments = repeat(moment(ats[0])) if len(ats) == 1 else map(moment, ats)
    for values, at in zip(zip(*columns, strict=True), moments, strict=False):
        yield Row(table, key_columns, dict(zip(names, values, strict=True)), at)
