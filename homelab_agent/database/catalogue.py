"""What the shipper knows of PostgreSQL's tables, and so where rows go and which have no place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from homelab_agent.core.spool import Row
from homelab_agent.database import insert, partitions
from homelab_agent.database.insert import Part, Shape
from homelab_agent.database.pool import Connection

FIRST = "entity"
"""The table whose rows others point to."""

Rejected: TypeAlias = list[tuple[Row, str]]

_DESCRIBE = """
SELECT attname, format_type(atttypid, NULL) AS type, attnum = ANY (partattrs) AS divides
  FROM pg_attribute LEFT JOIN pg_partitioned_table ON partrelid = attrelid
 WHERE attrelid = to_regclass(format('homelab.%I', $1::text)) AND attnum > 0 AND NOT attisdropped
 ORDER BY attnum
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its columns' types, and by which column it is divided into months ("" where it is not)."""

    columns: Mapping[str, str]
    divided_by: str


@dataclass(slots=True)
class Catalogue:
    """The tables met so far; made anew whenever something went wrong, for it may be out of date then."""

    _tables: dict[str, Table | None] = field(default_factory=dict)
    _statements: dict[tuple[Shape, ...], str] = field(default_factory=dict)
    _months: set[tuple[str, datetime]] = field(default_factory=set)

    async def sort(self, connection: Connection, rows: Sequence[Row]) -> tuple[dict[Shape, list[Row]], Rejected]:
        """Return rows by shape, in order, with the partitions they need made; and those without a place."""
        grouped: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[Row]] = {}
        for row in rows:
            grouped.setdefault((row.table, row.key, tuple(row.values)), []).append(row)
        fit: dict[Shape, list[Row]] = {}
        rejected: Rejected = []
        for raw in sorted(grouped, key=lambda each: each[0] != FIRST):
            shape, group = Shape(*raw), grouped[raw]
            table = await self._table(connection, shape.table)
            if reason := _misfit(table, shape):
                rejected += [(row, reason) for row in group]
                continue
            assert table is not None  # noqa: S101 - that would have been the reason
            if table.divided_by:
                timed = [row for row in group if isinstance(row.values.get(table.divided_by), datetime)]
                if len(timed) < len(group):
                    reason = f"{table.divided_by} is not a time"
                    rejected += [(row, reason) for row in group if row not in timed]
                await self._divide(connection, shape.table, table.divided_by, timed)
                group = timed
            if group:
                fit[shape] = group
        return fit, rejected

    def part(self, shape: Shape) -> Part:
        """Return a statement's part for rows of a shape that `sort` has found a place for."""
        table = self._tables[shape.table]
        assert table is not None  # noqa: S101 - `sort` has found it
        return Part(shape, table.columns)

    def insert(self, shapes: Iterable[Shape]) -> str:
        """Return the statement that inserts rows of all these shapes."""
        together = tuple(shapes)
        if together not in self._statements:
            self._statements[together] = insert.insert_all([self.part(shape) for shape in together])
        return self._statements[together]

    async def _table(self, connection: Connection, name: str) -> Table | None:
        if name not in self._tables:
            found = await connection.fetch(_DESCRIBE, name)
            divided_by = next((row["attname"] for row in found if row["divides"]), "")
            columns = {row["attname"]: row["type"] for row in found}
            self._tables[name] = Table(columns, divided_by) if found else None
        return self._tables[name]

    async def _divide(self, connection: Connection, name: str, column: str, rows: Iterable[Row]) -> None:
        """Make the partitions that rows need; without one PostgreSQL refuses them as it does bad rows."""
        months = {partitions.month(at) for row in rows if isinstance(at := row.values[column], datetime)}
        if missing := [month for month in months if (name, month) not in self._months]:
            await partitions.ensure(connection, name, missing)
            self._months.update((name, month) for month in missing)


def _misfit(table: Table | None, shape: Shape) -> str:
    """Return why rows of a shape have no place; "" when they have one."""
    if table is None:
        return f"there is no table {shape.table}"
    unknown = [column for column in shape.columns if column not in table.columns]
    return f"{shape.table} has no column {', '.join(unknown)}" if unknown else ""
