"""What is copied by stretches of time: a series, or one level of its rollups, and how it is counted on both sides."""

# ruff: noqa: S608 - names come from the catalogue

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import asyncpg

from homelab_agent.database import partitions
from homelab_agent.database.insert import quoted
from homelab_agent.database.moving import pieces, pipe
from homelab_agent.database.moving.pieces import Accepted, Count, Counts, Piece
from homelab_agent.database.moving.side import Side
from homelab_agent.database.rollups import timescale
from homelab_agent.database.rollups.level import DAY, HOUR

PIECE_ROWS = 200_000
"""So many rows are copied in one transaction."""


@dataclass(slots=True)
class Stretch:
    """Rows of `name` from `begin` until before `end` (None: all that come), told apart by `subject` and time.

    `is_rollup`: each stands for a number of samples; one of more samples takes the place of one of fewer. `accepted`:
    see `pieces.lacking`. `subjects`: whose rows are looked at in the target, None where it has nobody else's.
    """

    name: str
    subject: str
    columns: Sequence[str]
    begin: datetime
    end: datetime | None = None
    is_rollup: bool = False
    divided: bool = True
    subjects: Sequence[object] | None = None
    accepted: Accepted = field(default_factory=dict)

    @property
    def width(self) -> timedelta:
        """By what time it is counted, and cut."""
        return (DAY if self.is_rollup else HOUR).width

    async def count(self, side: Side, *, all_subjects: bool) -> Counts:
        """Count the rows of one side."""
        samples = "coalesce(sum(samples), 0)" if self.is_rollup else "count(*)"
        arguments: list[object] = [self.width, self.begin]
        where = "time >= $2"
        if self.end is not None:
            arguments.append(self.end)
            where += f" AND time < ${len(arguments)}"
        if not all_subjects and self.subjects is not None:
            arguments.append(list(self.subjects))
            where += f" AND {quoted(self.subject)} = ANY (${len(arguments)})"
        query = (
            f"SELECT date_bin($1, time, TIMESTAMPTZ 'epoch') AS bucket, count(*) AS rows, {samples} AS samples"
            f" FROM homelab.{quoted(self.name)} WHERE {where} GROUP BY 1"
        )
        return {row["bucket"]: (row["rows"], row["samples"]) for row in await side.connection.fetch(query, *arguments)}

    async def compare(self, source: Side, target: Side) -> Difference:
        """Count both sides, and tell what the target may lack."""
        ours = await self.count(source, all_subjects=True)
        theirs = await self.count(target, all_subjects=False)
        buckets = pieces.lacking(ours, theirs, self.accepted)
        return Difference(self, ours, theirs, pieces.cut(buckets, ours, theirs, self.width, PIECE_ROWS))

    async def copy(self, source: Side, target: Side, piece: Piece) -> None:
        """Bring one piece over, in a transaction."""
        if self.divided and not target.is_timescale:  # not in the transaction that inserts
            await partitions.ensure(target.connection, self.name, set(_months(piece)))
        if piece.is_new and not (self.is_rollup and target.is_timescale):
            try:
                async with target.connection.transaction():
                    await self._pour(source, piece, target, f"homelab.{self.name}")
            except asyncpg.UniqueViolationError:
                pass  # somebody's rows came meanwhile
            else:
                return
        async with target.connection.transaction():
            staged = await pipe.stage(target.connection, f"homelab.{quoted(self.name)}", self.columns)
            await self._pour(source, piece, target, staged)
            await self._merge(target, staged, piece)

    async def _pour(self, source: Side, piece: Piece, target: Side, table: str) -> None:
        listed = ", ".join(quoted(each) for each in self.columns)
        end = piece.end if self.end is None else min(piece.end, self.end)
        query = f"SELECT {listed} FROM homelab.{quoted(self.name)} WHERE time >= $1 AND time < $2"
        begin = max(piece.begin, self.begin)
        await pipe.pour(source.connection, query, (begin, end), target.connection, table, self.columns)

    async def _merge(self, target: Side, staged: str, piece: Piece) -> None:
        listed, subject = ", ".join(quoted(each) for each in self.columns), quoted(self.subject)
        into = f"homelab.{quoted(self.name)}"
        if self.is_rollup and target.is_timescale:
            into = await timescale.materialized(target.connection, self.name)
            same = f"kept.{subject} = new.{subject} AND kept.time = new.time"
            within = (piece.begin, piece.end)
            await target.connection.execute(
                f"DELETE FROM {into} AS kept USING {staged} AS new"
                f" WHERE {same} AND kept.samples < new.samples AND kept.time >= $1 AND kept.time < $2",
                *within,
            )
            await target.connection.execute(
                f"INSERT INTO {into} ({listed}) SELECT {listed} FROM {staged} AS new WHERE NOT EXISTS"
                f" (SELECT FROM {into} AS kept WHERE {same} AND kept.time >= $1 AND kept.time < $2)",
                *within,
            )
            return
        otherwise = "NOTHING"
        if self.is_rollup:
            changed = (f"{quoted(each)} = excluded.{quoted(each)}" for each in self.columns)
            otherwise = f"UPDATE SET {', '.join(changed)} WHERE kept.samples < excluded.samples"
        await target.connection.execute(
            f"INSERT INTO {into} AS kept ({listed}) SELECT {listed} FROM {staged}"
            f" ON CONFLICT ({subject}, time) DO {otherwise}"
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """What both sides hold of a stretch, and which pieces the target may lack."""

    stretch: Stretch
    source: Mapping[datetime, Count]
    target: Mapping[datetime, Count]
    pieces: Sequence[Piece]

    @property
    def rows(self) -> int:
        """How many rows are to be copied."""
        return sum(piece.rows for piece in self.pieces)

    @property
    def held(self) -> int:
        """How many rows the source has."""
        return sum(rows for rows, _ in self.source.values())

    def accept(self, recounted: Counts) -> None:
        """Remember what the target has more of, once all of the source's has been copied."""
        for piece in self.pieces:
            for bucket, count in self.source.items():
                if piece.begin <= bucket < piece.end:
                    self.stretch.accepted[bucket] = (count, recounted.get(bucket, pieces.NONE))


def _months(piece: Piece) -> Iterator[datetime]:
    month = partitions.month(piece.begin)
    while month < piece.end:
        yield month
        month = partitions.month(month + timedelta(days=32))
