"""What is old enough goes, where PostgreSQL does nothing of it by itself: whole months, once they are rolled up.

What a coarser level was made of is gone then; so it is settled until there, and a late row from before changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg

from homelab_agent.database import partitions
from homelab_agent.database.insert import quoted
from homelab_agent.database.pool import Connection
from homelab_agent.database.rollups import plain, statements
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.level import DAY, HOUR, MINUTE, Level
from homelab_agent.database.rollups.series import Series

PATIENCE = "SET LOCAL lock_timeout = '5s'"
"""Who reads a series keeps its months from being dropped, and who waits to drop one keeps everybody else waiting."""

_MONTHS = """
SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid
 WHERE inhparent = format('homelab.%I', $1::text)::regclass ORDER BY relname
"""
_PART = re.compile(r"_y(\d{4})m(\d{2})$")
_NEVER = datetime.min.replace(tzinfo=UTC)
_LATE = "SELECT EXISTS (SELECT FROM homelab.rollup_late WHERE series = $1 AND from_at >= $2 AND from_at < $3)"
_SETTLED = """
INSERT INTO homelab.rollup (series, level, settled) VALUES ($1, $2, $3)
    ON CONFLICT (series, level) DO UPDATE SET settled = greatest(rollup.settled, excluded.settled)
"""


_FINDINGS = """
DELETE FROM homelab.finding
 WHERE at < $1 AND started_at <> (
       SELECT newest.started_at FROM homelab.finding AS newest
        WHERE newest.host = finding.host ORDER BY newest.arrival DESC LIMIT 1)
"""
"""What an agent's newest start has told stays: the view `standing` is made of it, however old it is."""


async def forget_findings(connection: Connection, before: datetime) -> int:
    """Delete findings of earlier starts from before then, on either edition; return how many."""
    return int((await connection.execute(_FINDINGS, before)).rpartition(" ")[2])


async def expire(connection: Connection, series: Series, keep: Keep, now: datetime) -> Sequence[str]:
    """Drop what is older than it is to be kept; return what was dropped, by name.

    What somebody reads just then stays until the next time.
    """
    gone: list[str] = []
    try:
        gone += await _samples(connection, series, keep, now)
        gone += await _minutes(connection, series, now - keep.minutes)
        await _hours(connection, series, now - keep.hours)
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
        pass  # an insert has its table before the series' lock, and here it is the other way round
    return gone


async def _samples(connection: Connection, series: Series, keep: Keep, now: datetime) -> Sequence[str]:
    """Drop samples; those of which no minutes were made are kept as long as minutes."""
    async with plain.alone(connection, series) as standing:
        made = standing[MINUTE].until or _NEVER
        bound = _month(max(now - keep.minutes, min(now - keep.samples, made)), standing[DAY].until)
        late = await connection.fetchval(_LATE, series.name, standing[MINUTE].settled or _NEVER, bound)
        if late:
            return ()
        gone = await _drop(connection, series, series.name, MINUTE, bound)
        if gone and bound > made:  # of these, hours were made
            await connection.execute(_SETTLED, series.name, HOUR.name, bound)
        return gone


async def _minutes(connection: Connection, series: Series, before: datetime) -> Sequence[str]:
    async with plain.alone(connection, series) as standing:
        bound = _month(before, standing[MINUTE].settled)
        return await _drop(connection, series, series.rollup(MINUTE), HOUR, bound)


async def _hours(connection: Connection, series: Series, before: datetime) -> None:
    async with plain.alone(connection, series) as standing:
        bound = _month(before, standing[HOUR].settled)
        if bound > (standing[DAY].settled or _NEVER):
            await connection.execute(statements.forget(series, HOUR), bound)
            await connection.execute(_SETTLED, series.name, DAY.name, bound)


def _month(before: datetime, done: datetime | None) -> datetime:
    """Return before which month all may go that is older than `before`, and that nothing coarser waits for."""
    return _NEVER if done is None else partitions.month(min(before, done))


async def _drop(connection: Connection, series: Series, table: str, coarser: Level, bound: datetime) -> Sequence[str]:
    """Drop a table's months from before `bound`, of which the coarser level is settled then; return their names."""
    listed = [str(row["relname"]) for row in await connection.fetch(_MONTHS, table)]
    gone = [name for name in listed if (parts := _PART.search(name)) and _begin(parts) < bound]
    if gone:
        await connection.execute(PATIENCE)
        await connection.execute(f"DROP TABLE {', '.join(f'homelab.{quoted(name)}' for name in gone)}")
        await connection.execute(_SETTLED, series.name, coarser.name, bound)
    return gone


def _begin(parts: re.Match[str]) -> datetime:
    return datetime(int(parts[1]), int(parts[2]), 1, tzinfo=UTC)
