"""How rows get into their tables: one statement, whatever their number and shapes, that can be repeated.

Values go as one array per column (`INSERT ... SELECT FROM unnest(...) ON CONFLICT DO NOTHING`), which a prepared
statement takes in any length; one such part for each shape, side by side in one WITH, as each question costs a wake-up
on both sides. Names of tables and columns come from PostgreSQL's catalogue, never from a row alone.
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
class Part:
    """The part of a statement that is one shape's, given the types of the table's columns."""

    shape: Shape
    types: Mapping[str, str]

    def arguments(self, rows: Iterable[Mapping[str, object]]) -> list[list[Any]]:
        """Return one list per column of rows that all have the shape's columns in its order."""
        columns = zip(*(row.values() for row in rows), strict=True)
        return [_adapter(self.types[name])(column) for name, column in zip(self.shape.columns, columns, strict=True)]

    def insert(self, first: int) -> str:
        """Return what inserts rows, with parameters from number `first`; it returns a row for each inserted."""
        return (
            f"INSERT INTO {self._target} ({self._listed}) SELECT {', '.join(self._casts.values())}"  # noqa: S608
            f" FROM unnest({self._arrays(first)}) AS new({self._listed}) ON CONFLICT DO NOTHING RETURNING 1"
        )

    def differing(self) -> str:
        """Return what finds rows that are not as they were sent.

        It answers with the ordinals, from 1, of those whose key is in the table with other content (compared in the
        columns' own types), or which another constraint kept out.
        """
        same_key = " AND ".join(f"old.{quoted(column)} = {self._casts[column]}" for column in self.shape.key)
        old = ", ".join(f"old.{quoted(column)}" for column in self.shape.columns)
        return (
            f"SELECT new.ordinality FROM unnest({self._arrays(1)})"  # noqa: S608
            f" WITH ORDINALITY AS new({self._listed}, ordinality) LEFT JOIN {self._target} AS old ON {same_key}"
            f" WHERE ROW({old}) IS DISTINCT FROM ROW({', '.join(self._casts.values())}) ORDER BY 1"
        )

    @property
    def _target(self) -> str:
        return f"homelab.{quoted(self.shape.table)}"

    @property
    def _listed(self) -> str:
        return ", ".join(quoted(column) for column in self.shape.columns)

    @property
    def _casts(self) -> Mapping[str, str]:
        kinds = {column: self.types[column] for column in self.shape.columns}
        return {
            column: f"new.{quoted(column)}" + ("" if kind in _NATIVE else f"::{kind}") for column, kind in kinds.items()
        }

    def _arrays(self, first: int) -> str:
        kinds = (self.types[column] for column in self.shape.columns)
        return ", ".join(f"${number}::{_carrier(kind)}[]" for number, kind in enumerate(kinds, first))


def insert_all(parts: Sequence[Part]) -> str:
    """Return the statement that inserts rows of all these shapes and answers, for each, how many were not there yet.

    Its arguments are those of the parts, one after the other.
    """
    inserts = []
    first = 1
    for number, part in enumerate(parts):
        inserts.append(f"part_{number} AS ({part.insert(first)})")
        first += len(part.shape.columns)
    counts = ", ".join(f"(SELECT count(*) FROM part_{number})" for number in range(len(parts)))  # noqa: S608
    return f"WITH {', '.join(inserts)} SELECT {counts}"


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


def quoted(name: str) -> str:
    """Return a name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'
