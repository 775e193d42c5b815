"""The proof that all came: what a source keeps as done with is held against what is here, day by day of the ids.

Both sides are counted and hashed. The hash of a set of ids is the exclusive or of their MD5s, which needs neither an
order nor memory; it is to find what went wrong, not to keep anybody out.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from homelab_agent.core.clock import EPOCH
from homelab_agent.reading import statements
from homelab_agent.reading.document import Window
from homelab_agent.reading.source import Keeper, Source

OTHER = "other"
"""The day of ids that hold no time."""

_TIMED = re.compile(r"[0-9a-f]{24}")
_DAY_SECONDS = 24 * 60 * 60
_FIRST, _LAST = "", "\U0010ffff"
_HALF = 2**64 - 1
_REFUSED = "!"

Differing: TypeAlias = Sequence[tuple[str, str]]
"""Keys, and what is wrong with each."""


@dataclass(slots=True)
class Digest:
    """How many ids there are on one side, as rows and rejected, and the hash of both sets together."""

    rows: int = 0
    refused: int = 0
    value: int = 0

    def add(self, key: str, *, refused: bool) -> None:
        """Take one more."""
        if refused:
            self.refused += 1
        else:
            self.rows += 1
        said = (_REFUSED if refused else "") + key
        self.value ^= int.from_bytes(hashlib.md5(said.encode(), usedforsecurity=False).digest())

    @property
    def hash(self) -> str:
        """The hash in hexadecimal digits."""
        return f"{self.value:032x}"


@dataclass(frozen=True, slots=True)
class Day:
    """One day, as the source has it and as it is here."""

    day: str
    there: Digest
    here: Digest

    @property
    def holds(self) -> bool:
        """Whether both have the same."""
        return self.there == self.here


@dataclass(frozen=True, slots=True)
class Proof:
    """What was compared, in the order of the days."""

    days: Sequence[Day] = field(default_factory=tuple)

    @property
    def failed(self) -> Sequence[str]:
        """The days on which the two differ."""
        return [one.day for one in self.days if not one.holds]

    def __str__(self) -> str:
        if not self.days:
            return "nothing to prove"
        rows = sum(one.here.rows for one in self.days)
        return (
            f"{rows} rows of {_days(len(self.days))} proven"
            if not self.failed
            else f"differs: {', '.join(self.failed)}"
        )


class Proving:
    """Compares a source, opened as `keeper`, with what is here."""

    def __init__(self, source: Source, keeper: Keeper, connection: Any) -> None:
        self._origin = source.name
        self._marks_rejected = source.marks_rejected
        self._keeper = keeper
        self._connection = connection

    async def prove(self, days: Collection[str]) -> Proof:
        """Compare these days: each side is read once, from the first of them to the last."""
        timed = sorted(set(days) - {OTHER})
        there: dict[str, Digest] = {}
        here: dict[str, Digest] = {}
        if timed:
            await self._gather(there, self._keeper.kept(window(timed[0], timed[-1])))
            await self._sum_up(here, *_keys(timed[0], timed[-1]), timed=True)
        if OTHER in days:
            await self._gather(there, self._keeper.kept_otherwise())
            await self._sum_up(here, _FIRST, _LAST, timed=False)
        wanted = sorted(days)
        return Proof([Day(day, there.get(day, Digest()), here.get(day, Digest())) for day in wanted])

    async def differing(self, day: str) -> Differing:
        """Return which ids of a day are not the same on both sides."""
        if day == OTHER:
            first, last, source = _FIRST, _LAST, self._keeper.kept_otherwise()
        else:
            (first, last), source = _keys(day, day), self._keeper.kept(window(day, day))
        there = {key: status async for batch in source for key, status in batch}
        rows = await self._connection.fetch(statements.KEYS, self._origin, first, last, day != OTHER)
        here = {row["key"]: "rejected" if row["refused"] else "a row" for row in rows}
        found = ((key, self._wrong(there.get(key), here.get(key))) for key in sorted({*there, *here}))
        return [(key, wrong) for key, wrong in found if wrong]

    def _wrong(self, there: str | None, here: str | None) -> str:
        """Return what is wrong with a document, by its status at the source and by what it is here; "" for nothing."""
        if there is None:
            return f"is {here} here, and not at the source any more"
        expected = {"processed": "a row", "rejected": "rejected"}.get(there)
        if here == "rejected" and expected is None and not self._marks_rejected:
            return ""
        return "" if here == expected else f"is {there or 'without a status'} at the source, and {here or 'not'} here"

    async def _gather(self, into: dict[str, Digest], source: AsyncIterator[Sequence[tuple[str, str]]]) -> None:
        async for batch in source:
            for key, status in batch:
                if status == "processed" or (status == "rejected" and self._marks_rejected):
                    into.setdefault(day_of(key), Digest()).add(key, refused=status == "rejected")

    async def _sum_up(self, into: dict[str, Digest], first: str, last: str, *, timed: bool) -> None:
        for row in await self._connection.fetch(statements.HASHES, self._origin, first, last, timed):
            if row["refused"] and not self._marks_rejected:
                continue
            digest = into.setdefault(row["day"], Digest())
            digest.value ^= (row["high"] & _HALF) << 64 | (row["low"] & _HALF)
            if row["refused"]:
                digest.refused += row["count"]
            else:
                digest.rows += row["count"]


def day_of(key: str) -> str:
    """Return the day, in UTC, on which an ObjectId was made; `OTHER` for another id."""
    return OTHER if _TIMED.fullmatch(key) is None else _day(int(key[:8], 16) // _DAY_SECONDS)


@functools.cache
def _day(number: int) -> str:
    """Return the day that is the so manyth from 1970; there are 49,711 of ObjectIds."""
    return f"{EPOCH + timedelta(days=number):%Y-%m-%d}"


def days_of(keys: Iterable[str]) -> frozenset[str]:
    """Return the days of several."""
    return frozenset(map(day_of, keys))


def window(first: str, last: str) -> Window:
    """Return the window from the first day to the last, with both."""
    return Window(_midnight(first), _midnight(last) + timedelta(days=1))


def as_rows(proof: Proof) -> list[tuple[object, ...]]:
    """Return what is kept of a proof."""
    return [
        (one.day, one.there.rows, one.here.rows, one.there.refused, one.here.refused, one.there.hash, one.here.hash)
        for one in proof.days
    ]


def _keys(first: str, last: str) -> tuple[str, str]:
    end = int((_midnight(last) + timedelta(days=1)).timestamp())
    return f"{int(_midnight(first).timestamp()):08x}", f"{end:08x}" if end < 2**32 else _LAST


def _midnight(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def _days(count: int) -> str:
    return f"{count} day" if count == 1 else f"{count} days"
