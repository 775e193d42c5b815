"""Rows of any age, put where they are kept: samples, or only what they came to by minute, hour and day."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain

from homelab_agent.core.errors import AgentError
from homelab_agent.core.spool import Row
from homelab_agent.database import editions, migrations
from homelab_agent.database.catalogue import Catalogue
from homelab_agent.database.editions import TIMESCALE
from homelab_agent.database.insert import Shape
from homelab_agent.database.pool import Connection
from homelab_agent.database.rollups import plain, series, timescale
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.level import HOUR
from homelab_agent.database.rollups.past import Columns, Past

WRITE_SECONDS = 600.0
_STALE = "UPDATE homelab.rollup SET until = least(until, $2) WHERE series = ANY ($1::text[])"
_OVERLAP = timedelta(days=2)
"""TimescaleDB drops samples before every refresh has surely seen them: so long those that are old go both ways."""


class SchemaOld(AgentError):
    """The database's schema is older than this release: {count} migrations are to be applied."""

    repair = "homelab-agent db migrate"


class RowsRefused(AgentError):
    """The schema has no place for rows that this release writes."""

    repair = "homelab-agent doctor database"


@dataclass(frozen=True, slots=True)
class Put:
    """What became of rows: `new` are in the table, `there` were before, `rolled` are only in hours and days."""

    new: int = 0
    there: int = 0
    rolled: int = 0

    def __add__(self, other: Put) -> Put:
        return Put(self.new + other.new, self.there + other.there, self.rolled + other.rolled)


@dataclass(slots=True)
class History:
    """Writes on one connection. Rows of one series must come by whole hours, in order of time."""

    connection: Connection
    edition: str
    past: Mapping[str, Past]
    samples_from: Mapping[str, datetime]
    overlap: timedelta
    minutes_from: datetime
    _known: Catalogue = field(default_factory=Catalogue)

    @classmethod
    async def open(cls, connection: Connection, keep: Keep, now: datetime) -> History:
        """Make rollups ready, where no agent has yet: what is written into them must lie before what is done again.

        Raises `SchemaOld`.
        """
        edition = (await editions.look(connection)).name
        loaded = await asyncio.to_thread(migrations.load, edition)
        if missing := migrations.pending(loaded, await migrations.read_applied(connection)):
            raise SchemaOld(count=len(missing))
        known = await series.read(connection, edition)
        there = await series.relations(connection)
        for each in known:
            if edition == TIMESCALE:
                await timescale.make(connection, each, there)
                await timescale.begin(connection, each, keep, now)
            else:
                await plain.make(connection, each, there)
                await plain.begin(connection, each, now)
        past = {each.name: await Past.of(connection, each, edition) for each in known}
        minutes = HOUR.floor(now - keep.minutes)
        samples = {each.name: minutes if each.slow else HOUR.floor(now - keep.samples) for each in known}
        overlap = _OVERLAP if edition == TIMESCALE else timedelta()
        return cls(connection, edition, past, samples, overlap, minutes)

    @asynccontextmanager
    async def putting(self, rows: Sequence[Row]) -> AsyncIterator[Mapping[str, Put]]:
        """Give what becomes of rows, by table, in the transaction that writes them, and whatever its holder adds."""
        young = [row for row in rows if row.table not in self.past or row.at >= self.samples_from[row.table]]
        old = [row for row in rows if row.table in self.past and row.at < self.samples_from[row.table] + self.overlap]
        fit, rejected = await self._known.sort(self.connection, young)
        if rejected:
            raise RowsRefused(cause=rejected[0][1])
        columns = _columns(old)
        for table, each in columns.items():
            await self.past[table].prepare(self.connection, each.times)
        async with self.connection.transaction():
            done: dict[str, Put] = {}
            for table, each in columns.items():
                await self.past[table].write(self.connection, each, minutes_from=self.minutes_from)
            for row in old:
                if row.at < self.samples_from[row.table]:
                    done[row.table] = done.get(row.table, Put()) + Put(rolled=1)
            if fit:
                for table, put in await self._insert(fit):
                    done[table] = done.get(table, Put()) + put
                if self.edition == TIMESCALE:
                    await self._have_refreshed(young)
            yield done

    async def _have_refreshed(self, young: Sequence[Row]) -> None:
        """Have the next hourly job refresh from these rows on, not only once a day has passed."""
        names = sorted({row.table for row in young} & self.past.keys())
        await self.connection.execute(_STALE, names, min(row.at for row in young))

    async def _insert(self, fit: Mapping[Shape, Sequence[Row]]) -> Sequence[tuple[str, Put]]:
        arguments = (self._known.part(shape).arguments(row.values for row in rows) for shape, rows in fit.items())
        inserted = await self.connection.fetchrow(
            self._known.insert(fit), *chain.from_iterable(arguments), timeout=WRITE_SECONDS
        )
        assert inserted is not None  # noqa: S101 - it counts, so it has an answer
        return [
            (shape.table, Put(new=count, there=len(rows) - count))
            for (shape, rows), count in zip(fit.items(), inserted, strict=True)
        ]


def _columns(rows: Iterable[Row]) -> Mapping[str, Columns]:
    """Return rows of series column by column."""
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.table, []).append(row)
    return {
        table: Columns(
            [row.values["entity_id"] for row in group],  # type: ignore[misc]
            [row.at for row in group],
            {
                name: [row.values[name] for row in group]
                for name in group[0].values
                if name not in {"entity_id", "time"}
            },
        )
        for table, group in grouped.items()
    }
