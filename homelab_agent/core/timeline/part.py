"""What a room contributes to the timeline: which of its rows are wanted, and what they say in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID

from homelab_agent.core.clock import moment
from homelab_agent.core.timeline.entry import Entry, Standing

Fields: TypeAlias = Mapping[str, Any]
"""A row by its columns in PostgreSQL; times are aware, UUIDs are texts."""

BRIEF_MAX = 200


@dataclass(frozen=True, slots=True)
class Window:
    """From `since` (with it) to `until` (without; None: without an end); `host` "" is all of them."""

    since: datetime
    until: datetime | None = None
    host: str = ""

    def meets(self, began: datetime, ended: datetime | None) -> bool:
        """Return whether any of it is in here; None has not ended."""
        return (self.until is None or began < self.until) and (ended is None or ended >= self.since)

    def has(self, entry: Entry) -> bool:
        """Return whether an entry is in here."""
        ended = None if entry.standing is Standing.UNDER_WAY else entry.until or entry.at
        return self.host in {"", entry.host} and self.meets(entry.at, ended)


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view of PostgreSQL whose rows are wanted: those between whose `began` and `ended` the window is.

    `key` makes a row unique within its host. `kept` is the query that gives them from state.db, under the same names,
    without the host; "" where that does not keep them; not `is_whole`: it keeps but the last. `times` are its columns
    of times, beside the two. `what` they are is in the plural.
    """

    name: str
    key: tuple[str, ...]
    began: str
    ended: str
    what: str
    kept: str = ""
    times: tuple[str, ...] = ()
    is_whole: bool = True

    def of_state(self, row: Mapping[str, Any], host: str) -> Fields:
        """Return a row of state.db as PostgreSQL has it."""
        found = {"host": host, **row}
        for name in {self.began, self.ended, *self.times} & found.keys():
            found[name] = None if found[name] is None else moment(found[name])
        return found

    def meets(self, row: Fields, window: Window) -> bool:
        """Return whether a row is of a window."""
        is_of = window.host in {"", row["host"]}
        return is_of and row[self.began] is not None and window.meets(row[self.began], row[self.ended])


class Facts:
    """The rows of all sources, by table; one that several have is one."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[tuple[Any, ...], Fields]] = {}

    def add(self, table: Table, rows: Iterable[Fields]) -> None:
        """Take rows; what they say counts more than what was known before, and what they do not know stays."""
        known = self._rows.setdefault(table.name, {})
        for row in rows:
            fit = {name: _fit(value) for name, value in row.items()}
            key = tuple(fit[name] for name in ("host", *table.key))
            known[key] = {**known.get(key, {}), **fit}

    def __getitem__(self, name: str) -> Sequence[Fields]:
        """Return a table's rows."""
        return list(self._rows.get(name, {}).values())


@dataclass(frozen=True, slots=True)
class Part:
    """A room's part; `tell` makes entries of its own rows, and may look at all others for what these refer to."""

    tables: Sequence[Table]
    tell: Callable[[Facts], Iterator[Entry]]
    noted: Noted | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """Rows that are neither in PostgreSQL nor in state.db, but in files of this host.

    `read` is given the room's section of the configuration; it raises OSError where they cannot be read.
    """

    table: Table
    read: Callable[[Any], Iterable[Fields]]


def thing(host: str, kind: str, *key: object) -> str:
    """Return the name by which entries refer to one another."""
    return "/".join((host, kind, *map(str, key)))


def brief(*parts: str) -> str:
    """Return what is not empty of `parts` in one line that moves no cursor, joined by colons, of bounded length."""
    text = ": ".join(filter(None, (" ".join(part.split()) for part in parts)))
    text = "".join(sign if sign.isprintable() else "?" for sign in text)
    return text if len(text) <= BRIEF_MAX else text[: BRIEF_MAX - 1] + "…"


def _fit(value: Any) -> Any:
    match value:
        case datetime():
            return value.astimezone(UTC)
        case UUID():
            return str(value)
    return value
