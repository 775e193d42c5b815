"""Rollups in a move: before a boundary they are copied; from there on the target makes them of the samples it has got.

The boundary is a day's begin: from it on all samples are kept for sure, in both. In the target `rollup` says that what
is before it is never done again (`settled`): so no refresh and no late row empties what was copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from homelab_agent.database import partitions
from homelab_agent.database.insert import quoted
from homelab_agent.database.moving.side import Side
from homelab_agent.database.moving.stretch import Stretch
from homelab_agent.database.rollups import aggregate, plain, series, statements, timescale
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.level import DAY, MINUTE, Level
from homelab_agent.database.rollups.series import Series

EVER = datetime(1970, 1, 1, tzinfo=UTC)
_STANDING = "SELECT settled, until FROM homelab.rollup WHERE series = $1 AND level = $2"
_BOUND = """
INSERT INTO homelab.rollup (series, level, until, settled) VALUES ($1, $2, $3, $4)
    ON CONFLICT (series, level) DO UPDATE
        SET until = coalesce(rollup.until, excluded.until), settled = greatest(rollup.settled, excluded.settled)
"""
_AGAIN = "INSERT INTO homelab.rollup_late (series, from_at, to_at) VALUES ($1, $2, $3)"


async def up_to_date(side: Side, each: Series, keep: Keep, now: datetime) -> None:
    """Roll up what is not yet, up to now."""
    if side.is_timescale:
        await timescale.refresh(side.connection, each, keep, now, at_once=True)
    else:
        await plain.keep_up(side.connection, each, now)


async def boundary(source: Side, target: Side, each: Series, theirs: Series, keep: Keep, now: datetime) -> datetime:
    """Return from when on the target makes the series' rollups itself; `theirs` is the series as it is there."""
    bound = DAY.ceil(await samples_from(source, each, keep, now))
    if target.is_timescale:
        bound = max(bound, DAY.ceil(now - samples_kept(theirs, keep)))
    for side, one in ((source, each), (target, theirs)):
        row = await side.connection.fetchrow(_STANDING, one.name, one.levels[0].name)
        if row is not None and row["settled"] is not None:
            bound = max(bound, DAY.ceil(row["settled"]))
    return bound


async def samples_from(side: Side, each: Series, keep: Keep, now: datetime) -> datetime:
    """Return from when on all samples are there for sure: those without minutes stay as long as minutes."""
    if side.is_timescale:
        return now - samples_kept(each, keep)
    row = await side.connection.fetchrow(_STANDING, each.name, MINUTE.name)
    made = EVER if row is None or row["until"] is None else row["until"]
    return max(now - keep.minutes, min(now - keep.samples, made))


async def prepare(target: Side, each: Series, bound: datetime, now: datetime) -> None:
    """Have the target keep what is copied of before the boundary, and make what follows."""
    row = await target.connection.fetchrow(_STANDING, each.name, each.levels[0].name)
    until = row and row["until"]
    if target.is_timescale:
        until = until or EVER  # nothing was refreshed yet, so the next refresh is due
    elif (until is not None and until < bound) or (until is None and await _has_rows(target, each)):
        await plain.keep_up(target.connection, each, now)  # its own rows, before they are settled
    async with target.connection.transaction():
        await target.connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('homelab.rollup.' || $1, 0))", each.name
        )
        for level in each.levels:
            await target.connection.execute(
                _BOUND, each.name, level.name, until if target.is_timescale else bound, bound
            )


def samples_kept(each: Series, keep: Keep) -> timedelta:
    """Return how long samples are kept: what has no minutes of its own keeps them as long as minutes."""
    return keep.minutes if each.slow else keep.samples


def kept(level: Level, keep: Keep, now: datetime, *, by_day: bool) -> datetime:
    """Return from when on a level's rows are kept for sure: by whole months where PostgreSQL drops none by itself."""
    span = keep.level(level)
    return EVER if span is None else whole(now - span, by_day=by_day)


def whole(at: datetime, *, by_day: bool) -> datetime:
    """Return from when on all is kept that is kept since then."""
    return DAY.ceil(at) if by_day else partitions.month(at)


def stretch(each: Series, level: Level, begin: datetime, bound: datetime, subjects: Sequence[object] | None) -> Stretch:
    """Return what of a level is copied."""
    columns = [each.subject, "time", *(column.name for column in aggregate.columns(each))]
    divided = level in statements.PARTITIONED
    name = each.rollup(level)
    return Stretch(name, each.subject, columns, begin, bound, divided=divided, subjects=subjects, is_rollup=True)


async def made(target: Side, each: Series, bound: datetime, now: datetime) -> list[tuple[Level, datetime]]:
    """Return the days from the boundary on of which a level does not stand for all of the target's samples."""
    end = DAY.floor(now - plain.LAG)
    samples = await _by_day(target, each.name, "count(*)", bound, end)
    wrong = []
    for level in each.levels:
        until = end
        if not target.is_timescale:  # minutes end where they were made last
            row = await target.connection.fetchrow(_STANDING, each.name, level.name)
            until = min(end, DAY.floor(row["until"])) if row is not None and row["until"] is not None else bound
        found = await _by_day(target, each.rollup(level), "sum(samples)", bound, until)
        days = sorted({*samples, *found})
        wrong += [(level, day) for day in days if day < until and samples.get(day) != found.get(day)]
    return wrong


async def again(target: Side, each: Series, days: Sequence[datetime], keep: Keep, now: datetime) -> None:
    """Make the rollups of some days anew."""
    if not target.is_timescale:
        for day in days:
            for hour in range(24):
                at = day + timedelta(hours=hour)
                await target.connection.execute(_AGAIN, each.name, at, at + timedelta(minutes=59, seconds=59))
    await up_to_date(target, each, keep, now)


async def _by_day(side: Side, name: str, what: str, begin: datetime, end: datetime) -> dict[datetime, int]:
    query = (
        f"SELECT date_bin('1 day', time, TIMESTAMPTZ 'epoch') AS day, {what} AS samples FROM homelab.{quoted(name)}"  # noqa: S608
        " WHERE time >= $1 AND time < $2 GROUP BY 1"
    )
    return {row["day"]: row["samples"] for row in await side.connection.fetch(query, begin, end)}


async def _has_rows(side: Side, each: Series) -> bool:
    return bool(await side.connection.fetchval(f"SELECT EXISTS (SELECT FROM homelab.{quoted(each.name)})"))  # noqa: S608


async def make(side: Side) -> None:
    """Make what rollups are kept in, where it is missing."""
    there = await series.relations(side.connection)
    for each in side.series:
        await (timescale if side.is_timescale else plain).make(side.connection, each, there)
