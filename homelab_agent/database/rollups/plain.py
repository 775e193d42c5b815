"""Rollups where PostgreSQL does nothing of it by itself: each step is one transaction, and can be done again.

Minutes of what comes once a minute, or more seldom, would be as many as its samples: they are not made (`are_coarser`),
and hours are made of the samples. Then minutes end where they were made last; the view makes those after it, for which
the samples stay as long as minutes would.

A step holds a lock on its series that inserts share (`note_late` in 0003_rollups.sql), reads what is there, writes rows
and how far it came, and commits both. Whatever kills it, the next one goes on from where the last commit was.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from homelab_agent.database import partitions
from homelab_agent.database.pool import Connection
from homelab_agent.database.rollups import aggregate, ranges, statements
from homelab_agent.database.rollups.level import DAY, HOUR, LEVELS, MINUTE, Level
from homelab_agent.database.rollups.ranges import Range
from homelab_agent.database.rollups.series import Relations, Series

LAG = timedelta(minutes=3)
"""So long samples may be under way to PostgreSQL without being late."""

_EVER = datetime.min.replace(tzinfo=UTC)
PACE = timedelta(hours=6)
COARSER = 1.5
"""A minute must hold so many samples on average to be made."""

_STATE = "SELECT level, until, settled FROM homelab.rollup WHERE series = $1"
_CAME_TO = """
INSERT INTO homelab.rollup (series, level, until) VALUES ($1, $2, $3)
    ON CONFLICT (series, level) DO UPDATE SET until = excluded.until
"""
_OLDEST = """
SELECT min(from_at) AS at, settled, until FROM homelab.rollup_late JOIN homelab.rollup USING (series)
 WHERE series = $1 AND level = $2 GROUP BY settled, until
"""
_TAKE = "DELETE FROM homelab.rollup_late WHERE series = $1 AND from_at >= $2 AND from_at < $3 RETURNING from_at, to_at"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a level stands: up to where it is done, and before when it is never done again; None: nowhere yet."""

    until: datetime | None = None
    settled: datetime | None = None


async def make(connection: Connection, series: Series, there: Relations) -> None:
    """Make what the series' rollups are kept in and asked by, where it is missing."""
    if any(aggregate.missing(series, level, there) for level in LEVELS):
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('homelab.rollup'))")
            await connection.execute("SET LOCAL client_min_messages = warning")  # not what is there already
            await connection.execute(statements.make(series))


async def are_coarser(connection: Connection, series: Series, now: datetime) -> bool:
    """Return whether minutes are fewer than the samples, by those of the last hours; where there is none, as before."""
    row = await connection.fetchrow(statements.pace(series), now - PACE, now)
    if row is not None and row["minutes"]:
        return bool(row["samples"] >= COARSER * row["minutes"])
    rows = {row["level"]: row["until"] for row in await connection.fetch(_STATE, series.name)}
    return not rows or rows[MINUTE.name] >= rows[HOUR.name]


async def roll(connection: Connection, series: Series, now: datetime, *, minutes: bool = True) -> None:
    """Roll up what is not yet, up to about `now`, and again what came late; `minutes` says whether they are made."""
    end = (MINUTE if minutes else HOUR).floor(now - LAG)
    while await _advance(connection, series, LEVELS if minutes else LEVELS[1:], end):
        pass
    while await _mend(connection, series):
        pass


async def keep_up(connection: Connection, series: Series, now: datetime) -> None:
    """Roll up what is not yet, with minutes where they are coarser."""
    await roll(connection, series, now, minutes=await are_coarser(connection, series, now))


async def begin(connection: Connection, series: Series, now: datetime) -> None:
    """Begin to roll up, where that has never been done: what comes from before then is late."""
    state = await connection.fetch(_STATE, series.name)
    if not any(row["level"] == MINUTE.name and row["until"] is not None for row in state):
        await roll(connection, series, now)


@asynccontextmanager
async def alone(connection: Connection, series: Series) -> AsyncIterator[Mapping[Level, Standing]]:
    """Give how the levels stand, in a transaction in which nobody inserts into the series or rolls it up."""
    async with connection.transaction():
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('homelab.rollup.' || $1, 0))", series.name
        )
        rows = {row["level"]: row for row in await connection.fetch(_STATE, series.name)}
        yield {
            level: Standing(row["until"], row["settled"]) if (row := rows.get(level.name)) else Standing()
            for level in LEVELS
        }


async def _begin(connection: Connection, series: Series, finest: Level, end: datetime) -> datetime:
    """Return up to where the finest level is rolled up, after it has been settled where that begins."""
    async with alone(connection, series) as standing:
        begin, settled = standing[finest].until, standing[finest].settled
        if begin is not None and settled is not None and settled > begin:  # of what is gone there will be none
            begin = settled
            await connection.execute(_CAME_TO, series.name, finest.name, begin)
        if begin is None:  # asked for alone: a row that is about to be committed must not be from before
            begin = DAY.floor(await connection.fetchval(statements.first(series), _EVER) or end)
            for level in LEVELS:
                await connection.execute(_CAME_TO, series.name, level.name, begin)
    return begin


async def _advance(connection: Connection, series: Series, levels: Sequence[Level], end: datetime) -> bool:
    """Roll up until the end of the next day that has samples, or until `end`; return whether there was some time left.

    Years may lie between two: a clock that was not set yet stamps a few.
    """
    begin = await _begin(connection, series, levels[0], end)
    if begin >= end:
        return False
    first = await connection.fetchval(statements.first(series), begin) or end
    until = min(end, DAY.floor(first) + DAY.width)
    if MINUTE in levels and first < end:
        await partitions.ensure(connection, series.rollup(MINUTE), [partitions.month(first)])
    async with alone(connection, series) as standing:
        if standing[levels[0]].until != begin:
            return True  # another agent was quicker
        if (await connection.fetchval(statements.first(series), begin) or end) < first:
            return True  # what has come since is from a time before, for whose month there may be no partition yet
        made = until if MINUTE in levels else standing[MINUTE].until
        for level in levels:
            since = standing[level].until or begin
            until = max(level.floor(until), since)  # minutes that are made after all follow hours that are there
            await _fill(connection, series, level, [(since, until)] if since < until else [], made)
            await connection.execute(_CAME_TO, series.name, level.name, until)
    return True


async def _mend(connection: Connection, series: Series) -> bool:
    """Do again what late rows of one day touch, and nothing else; return whether there were some."""
    oldest = await connection.fetchrow(_OLDEST, series.name, MINUTE.name)
    if oldest is None:
        return False
    day = DAY.floor(oldest["at"])
    settled = oldest["settled"]
    if day < oldest["until"] and (settled is None or settled <= day):  # else its month is gone, and stays so
        await partitions.ensure(connection, series.rollup(MINUTE), [partitions.month(day)])
    async with alone(connection, series) as standing:
        late = await connection.fetch(_TAKE, series.name, day, day + DAY.width)
        stale = ranges.touched([(row["from_at"], row["to_at"]) for row in late], MINUTE)
        for level in LEVELS:
            until, settled = standing[level].until, standing[level].settled
            stale = ranges.since(ranges.widened(stale, level), settled)
            await _fill(connection, series, level, ranges.before(stale, until), standing[MINUTE].until)
    return True


async def _fill(
    connection: Connection, series: Series, level: Level, stale: Sequence[Range], made: datetime | None
) -> None:
    """Make the level's rows of those times; hours of minutes only up to where these were `made`, then of samples."""
    border = HOUR.floor(made) if level is HOUR and made is not None else None
    for begin, end in stale if border is None else ranges.before(stale, border):
        await connection.execute(statements.fill(series, level), begin, end)
    for begin, end in [] if border is None else ranges.since(stale, border):
        await connection.execute(statements.fill(series, level, of_samples=True), begin, end)
