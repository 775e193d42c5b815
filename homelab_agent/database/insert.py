"""How rows of one shape get into their table: one statement, whatever their number, that can be repeated.

Values go as one array per column (`INSERT ... SELECT FROM unnest(...) ON CONFLICT DO NOTHING`), which a prepared
statement takes in any length. Names of tables and columns come from PostgreSQL's catalogue, never from a row alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import asyncpg

_NATIVE = frozenset(
    {"boolean", "smallint", "integer", "bigint", "real", "double precision", "text", "uuid"}
    | {"timestamp with time zone"}
)
"""Types whose Python values asyncpg sends as they are; any other goes as text and is cast by PostgreSQL."""


class Shape(NamedTuple):
    """What rows must have in common to go with one statement."""

    table: str
    key: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Statements:
    """For one table, key and set of columns: what inserts rows, and what finds those that are not as they were sent.

    `differing` returns the ordinals, from 1, of rows whose key is in the table with other content (compared in the
    columns' own types), or which another constraint kept out.
    """

    insert: str
    differing: str
    _adapt: Sequence[Callable[[Iterable[Any]], list[Any]]]

    def arguments(self, rows: Iterable[Mapping[str, object]]) -> list[list[Any]]:
        """Return one list per column of rows that all have this statement's columns in this order."""
        columns = zip(*(row.values() for row in rows), strict=True)
        return [adapt(column) for adapt, column in zip(self._adapt, columns, strict=True)]


def statements(shape: Shape, types: Mapping[str, str]) -> Statements:
    """Return the statements for rows of a shape, given the types of the table's columns."""
    kinds = [types[column] for column in shape.columns]
    names = [_quoted(column) for column in shape.columns]
    arrays = ", ".join(f"${number}::{_carrier(kind)}[]" for number, kind in enumerate(kinds, 1))
    casts = {
        column: f"new.{_quoted(column)}" + ("" if types[column] in _NATIVE else f"::{types[column]}")
        for column in shape.columns
    }
    target = f"homelab.{_quoted(shape.table)}"
    listed, cast = ", ".join(names), ", ".join(casts.values())
    same_key = " AND ".join(f"old.{_quoted(column)} = {casts[column]}" for column in shape.key)
    old = ", ".join(f"old.{name}" for name in names)
    return Statements(
        f"INSERT INTO {target} ({listed}) SELECT {cast} FROM unnest({arrays}) AS new({listed})"  # noqa: S608
        " ON CONFLICT DO NOTHING",
        f"SELECT new.ordinality FROM unnest({arrays}) WITH ORDINALITY AS new({listed}, ordinality)"  # noqa: S608
        f" LEFT JOIN {target} AS old ON {same_key} WHERE ROW({old}) IS DISTINCT FROM ROW({cast}) ORDER BY 1",
        [_adapter(kind) for kind in kinds],
    )


def is_the_rows_fault(error: BaseException) -> bool:
    """Whether PostgreSQL (or asyncpg, on the way to it) refuses the content of a row, and always will.

    A missing partition has the code of a check that failed, but no constraint's name.
    """
    if isinstance(error, asyncpg.PostgresError):
        missing_partition = isinstance(error, asyncpg.CheckViolationError) and not error.constraint_name
        return str(error.sqlstate)[:2] in {"22", "23"} and not missing_partition
    # asyncpg's own DataError: a value that the column's type cannot hold, an int beyond bigint
    return isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError)


def _carrier(kind: str) -> str:
    return kind if kind in _NATIVE else "text"


def _adapter(kind: str) -> Callable[[Iterable[Any]], list[Any]]:
    if kind in _NATIVE:
        return list
    return _as_json if kind in {"jsonb", "json"} else _as_text


def _as_json(values: Iterable[Any]) -> list[Any]:
    return [None if value is None else json.dumps(value) for value in values]


def _as_text(values: Iterable[Any]) -> list[Any]:
    return [None if value is None else str(value) for value in values]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
