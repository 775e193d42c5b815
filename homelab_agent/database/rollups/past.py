"""Samples that are older than samples are kept: what they come to goes straight into the rollups' own tables.

Of each minute and hour that which knows more samples stays: it is not known where the two have the same. So it can be
done again, and what an agent had rolled up before its samples went is not lost. Days are made of the hours there are.
Neither edition ever does these again by itself: they lie before what is settled, or before every refresh.
"""

# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from homelab_agent.database import partitions
from homelab_agent.database.editions import TIMESCALE
from homelab_agent.database.insert import quoted
from homelab_agent.database.pool import Connection
from homelab_agent.database.rollups import aggregate, statements, timescale
from homelab_agent.database.rollups.level import DAY, HOUR, LEVELS, MINUTE, Level
from homelab_agent.database.rollups.series import Series


@dataclass(frozen=True, slots=True)
class Columns:
    """Values of samples, column by column; `times` are in order."""

    entities: Sequence[int]
    times: Sequence[datetime]
    values: Mapping[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Past:
    """One series' rollups: in which table each level is kept, and whether a key is there once by itself."""

    series: Series
    tables: Mapping[Level, str]
    unique: bool

    @classmethod
    async def of(cls, connection: Connection, series: Series, edition: str) -> Past:
        """Find where the series' rollups, which are made, are kept."""
        if edition != TIMESCALE:
            return cls(series, {level: statements.target(series, level) for level in LEVELS}, unique=True)
        names = {level: series.rollup(level) for level in series.levels}
        tables = {level: await timescale.materialized(connection, name) for level, name in names.items()}
        return cls(series, tables, unique=False)

    async def prepare(self, connection: Connection, times: Sequence[datetime]) -> None:
        """Make what must be there before the transaction that writes."""
        if self.unique:
            await partitions.ensure(connection, self.series.rollup(MINUTE), {partitions.month(at) for at in times})

    async def write(self, connection: Connection, samples: Columns, *, minutes_from: datetime) -> None:
        """Roll whole hours of samples up; minutes are kept from that time on."""
        known = {name: values for name, values in samples.values.items() if name in self.series.measures}
        arguments = [samples.entities, samples.times, *known.values()]
        given = self._given(list(known))
        first = next((at for at, one in enumerate(samples.times) if one >= minutes_from), len(samples.times))
        if first < len(samples.times) and MINUTE in self.tables:
            await self._put(connection, MINUTE, self._of_samples(MINUTE, given), [each[first:] for each in arguments])
        await self._put(connection, HOUR, self._of_samples(HOUR, given), arguments)
        begin, end = DAY.floor(samples.times[0]), DAY.floor(samples.times[-1]) + DAY.width
        await self._put(connection, DAY, self._of_hours(), [sorted(set(samples.entities)), begin, end])

    async def _put(self, connection: Connection, level: Level, fresh: str, arguments: Sequence[Any]) -> None:
        table, subject, listed = self.tables[level], quoted(self.series.subject), aggregate.listed(self.series)
        same = f"old.{subject} = new.{subject} AND old.time = new.time"
        if self.unique:
            columns = aggregate.columns(self.series)
            changed = ", ".join(f"{quoted(each.name)} = excluded.{quoted(each.name)}" for each in columns)
            await connection.execute(
                f"INSERT INTO {table} AS old ({subject}, {listed}) {fresh} ON CONFLICT ({subject}, time)"
                f" DO UPDATE SET {changed} WHERE excluded.samples >= old.samples",
                *arguments,
            )
            return
        await connection.execute(
            f"DELETE FROM {table} AS old USING ({fresh}) AS new WHERE {same} AND old.samples <= new.samples", *arguments
        )
        await connection.execute(
            f"INSERT INTO {table} ({subject}, {listed}) SELECT new.* FROM ({fresh}) AS new"
            f" WHERE NOT EXISTS (SELECT FROM {table} AS old WHERE {same})",
            *arguments,
        )

    def _given(self, known: Sequence[str]) -> str:
        """Return the samples as a table: arrays of what is known, null for all else."""
        measures = self.series.measures
        arrays = ", ".join(f"${number}::{measures[name]}[]" for number, name in enumerate(known, 3))
        named = ", ".join(quoted(name) for name in (self.series.subject, "time", *known))
        nulls = "".join(f", NULL::{kind} AS {quoted(name)}" for name, kind in measures.items() if name not in known)
        parts = ", ".join(filter(None, ("$1::bigint[], $2::timestamptz[]", arrays)))
        return f"(SELECT *{nulls} FROM unnest({parts}) AS given({named}))"

    def _of_samples(self, level: Level, given: str) -> str:
        made = ", ".join(f"{each.of_samples} AS {quoted(each.name)}" for each in aggregate.columns(self.series))
        return self._grouped(level, made, given, "true")

    def _of_hours(self) -> str:
        made = ", ".join(f"{each.of_buckets} AS {quoted(each.name)}" for each in aggregate.columns(self.series))
        when = f"source.{quoted(self.series.subject)} = ANY ($1::bigint[]) AND source.time >= $2 AND source.time < $3"
        return self._grouped(DAY, made, self.tables[HOUR], when)

    def _grouped(self, level: Level, made: str, source: str, when: str) -> str:
        subject = f"source.{quoted(self.series.subject)}"
        bucket = f"date_bin({level.interval}, source.time, TIMESTAMPTZ 'epoch')"
        return f"SELECT {subject}, {bucket} AS time, {made} FROM {source} AS source WHERE {when} GROUP BY 1, 2"
