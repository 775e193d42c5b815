"""Rollups where TimescaleDB keeps them: continuous aggregates, and policies for refreshing, compressing and dropping.

Minutes of a slow series would be as many as its samples: its hours are made of these, and `NAME_1m` makes minutes when
it is asked. A database in which they were made before goes on so: hours of samples that are gone cannot be made anew.

A policy refreshes what is days old; once a day the agent has all be refreshed that is older, which costs nothing where
nothing has changed. What a refresh finds empty it empties: so none begins before what is kept for sure.
"""

# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import chain
from typing import TypeAlias

import asyncpg

from homelab_agent.core import journal
from homelab_agent.database.insert import quoted
from homelab_agent.database.pool import Connection
from homelab_agent.database.rollups import aggregate, plain
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.level import DAY, HOUR, LEVELS, MINUTE, Level
from homelab_agent.database.rollups.series import Relations, Series, relations

REFRESH_SECONDS = 3600.0
EVERY = timedelta(hours=1)
_DAILY = timedelta(days=1)
_CHUNKS = {MINUTE: timedelta(days=2), HOUR: timedelta(days=60), DAY: timedelta(days=720)}

log = journal.logger("database")

RETENTION, COLUMNSTORE, REFRESH = "policy_retention", "policy_compression", "policy_refresh_continuous_aggregate"

Policies: TypeAlias = Mapping[str, timedelta]
"""A table's policies by procedure: from which age on each takes rows, or of a refresh, up to which."""

_POLICIES = """
SELECT coalesce(view_name, jobs.hypertable_name) AS name, proc_name AS policy, job_id,
       coalesce(config ->> 'drop_after', config ->> 'compress_after', config ->> 'start_offset')::interval AS after,
       last_run_status = 'Failed' AS failed
  FROM timescaledb_information.jobs LEFT JOIN timescaledb_information.job_stats USING (job_id)
  LEFT JOIN timescaledb_information.continuous_aggregates
    ON jobs.hypertable_name IN (view_name, materialization_hypertable_name)
 WHERE coalesce(view_schema, jobs.hypertable_schema) = 'homelab' ORDER BY job_id
"""
_REMOVE = """
SELECT remove_retention_policy($1::text::regclass, if_exists => true),
       remove_compression_policy($1::text::regclass, if_exists => true)
"""
_REMOVE_REFRESH = "SELECT remove_continuous_aggregate_policy($1::text::regclass, if_exists => true)"
_ADD = {
    RETENTION: "SELECT add_retention_policy($1::text::regclass, $2::interval)",
    COLUMNSTORE: "SELECT add_compression_policy($1::text::regclass, $2::interval)",
}
_KNOWS = "SELECT EXISTS (SELECT FROM pg_proc WHERE proname = $1 AND $2 = ANY (proargnames))"
_FIRST_CHUNK = """
SELECT min(range_start) FROM timescaledb_information.chunks LEFT JOIN timescaledb_information.continuous_aggregates
    ON (materialization_hypertable_schema, materialization_hypertable_name)
       = (chunks.hypertable_schema, chunks.hypertable_name)
 WHERE (coalesce(view_schema, chunks.hypertable_schema), coalesce(view_name, chunks.hypertable_name)) = ('homelab', $1)
"""
_STATE = "SELECT until, settled FROM homelab.rollup WHERE series = $1 AND level = $2"
_CAME_TO = """
INSERT INTO homelab.rollup (series, level, until, settled) VALUES ($1, $2, $3, $4)
    ON CONFLICT (series, level) DO UPDATE
        SET until = excluded.until, settled = greatest(rollup.settled, excluded.settled)
"""
_REFRESH = "$1::text::regclass, $2::timestamptz, $3::timestamptz"
_ADD_REFRESH = (
    "$1::text::regclass, start_offset => $2::interval, end_offset => $3::interval, schedule_interval => $4::interval"
)


_MATERIALIZED = """
SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)
  FROM timescaledb_information.continuous_aggregates WHERE view_schema = 'homelab' AND view_name = $1
"""


async def make(connection: Connection, series: Series, there: Relations) -> None:
    """Make the series' continuous aggregates and views, where they are missing.

    A column that was added to a series later is in them from 2.28 on, which can add one to an aggregate.
    """
    if not any(aggregate.missing(series, level, there) for level in LEVELS):
        return
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('homelab.rollup'))")
            await connection.execute("SET LOCAL client_min_messages = warning")
            there = await relations(connection)  # another may have made them meanwhile
            for level in LEVELS:
                await connection.execute(_made(series, level, there))
    except (asyncpg.FeatureNotSupportedError, asyncpg.PostgresSyntaxError) as error:
        if series.rollup(HOUR) not in there:
            raise
        log.info("database.rollup_not_extended", series=series.name, cause=str(error))


async def refresh(connection: Connection, series: Series, keep: Keep, now: datetime, *, at_once: bool = False) -> None:
    """Refresh what no policy has, where that was not done within a day: what was there first, what came very late."""
    finer, kept = series.name, keep.minutes if series.slow else keep.samples
    for level in series.levels:
        state = await connection.fetchrow(_STATE, series.name, level.name)
        if at_once or state is None or now - state["until"] > _DAILY:
            end, settled = DAY.floor(now), now - kept
            begin: datetime | None = await connection.fetchval(_FIRST_CHUNK, finer)
            if begin is not None and state is not None:  # else nothing has ever been dropped
                begin = max(begin, settled, state["settled"])
            if begin is not None and (begin := level.ceil(begin)) < end:
                whole = await _whole(
                    connection, "refresh_continuous_aggregate", "options", """'{"buckets_per_batch": 0}'"""
                )
                query = f"CALL refresh_continuous_aggregate({_REFRESH}{whole})"
                await connection.execute(query, _named(series.rollup(level)), begin, end, timeout=REFRESH_SECONDS)
            await connection.execute(_CAME_TO, series.name, level.name, end, settled)
        finer, kept = series.rollup(level), keep.level(level) or kept


async def materialized(connection: Connection, name: str) -> str:
    """Return the table, as SQL has its name, in which TimescaleDB keeps a continuous aggregate's rows."""
    return str(await connection.fetchval(_MATERIALIZED, name))


async def begin(connection: Connection, series: Series, keep: Keep, now: datetime) -> None:
    """Refresh for the first time, where that has never been done: from then on nothing older is refreshed."""
    if await connection.fetchrow(_STATE, series.name, DAY.name) is None:
        await refresh(connection, series, keep, now)


async def adopt(connection: Connection, all_series: Iterable[Series], keep: Keep) -> None:
    """Have all policies be what is wanted. What they drop must have been refreshed before (`refresh`)."""
    present: dict[str, dict[str, timedelta]] = {}
    for row in await connection.fetch(_POLICIES):
        present.setdefault(row["name"], {})[row["policy"]] = row["after"]
    for name, policies in chain.from_iterable(wanted(each, keep).items() for each in all_series):
        if present.get(name, {}) == policies:
            continue
        async with connection.transaction():
            await connection.execute(_REMOVE, _named(name))
            if REFRESH in policies:
                await connection.execute(_REMOVE_REFRESH, _named(name))
            for policy, after in policies.items():
                await _add(connection, name, policy, after)


def wanted(series: Series, keep: Keep) -> Mapping[str, Policies]:
    """Return the policies of the series and of each continuous aggregate.

    A refresh reaches as far back as rows are not compressed, which is longer than a sample may be late.
    """
    compressed = keep.rowstore + timedelta(days=1)
    window = {REFRESH: keep.rowstore}
    found = {series.name: {COLUMNSTORE: keep.rowstore, RETENTION: keep.minutes if series.slow else keep.samples}}
    for level in series.levels:
        kept = keep.level(level)
        found[series.rollup(level)] = window | ({COLUMNSTORE: compressed, RETENTION: kept} if kept else {})
    return found


async def make_up(connection: Connection) -> tuple[int, int]:
    """Run the policies that failed when TimescaleDB ran them; return how many failed there, and how many here too."""
    failed = [row for row in await connection.fetch(_POLICIES) if row["failed"]]
    still = 0
    for row in failed:
        try:
            await connection.execute("CALL run_job($1)", row["job_id"], timeout=REFRESH_SECONDS)
        except asyncpg.PostgresError as error:
            log.warning("database.policy_failed", of=row["name"], policy=row["policy"], cause=str(error))
            still += 1
    return len(failed), still


async def _add(connection: Connection, name: str, policy: str, after: timedelta) -> None:
    if policy == REFRESH:
        whole = await _whole(connection, "add_continuous_aggregate_policy", "buckets_per_batch", "0")
        query = f"SELECT add_continuous_aggregate_policy({_ADD_REFRESH}{whole})"
        await connection.execute(query, _named(name), after, plain.LAG, EVERY)
    else:
        await connection.execute(_ADD[policy], _named(name), after)


async def _whole(connection: Connection, procedure: str, name: str, value: str) -> str:
    """Return what has a procedure do in one piece what newer versions do by ten buckets at a time.

    That takes a hundred times as long for minutes, and 2.28 forgets a bucket by it now and then
    (https://github.com/timescale/timescaledb/issues/10221).
    """
    return f", {name} => {value}" if await connection.fetchval(_KNOWS, procedure, name) else ""


def _named(name: str) -> str:
    return f"homelab.{quoted(name)}"


def _made(series: Series, level: Level, there: Relations) -> str:
    """Return what makes the level's view, and what that asks: a continuous aggregate, or the samples."""
    subject, name = quoted(series.subject), _named(series.rollup(level))
    finest = level is series.levels[0]
    finer = series.name if finest else series.rollup(LEVELS[LEVELS.index(level) - 1])
    bucket = f"time_bucket({level.interval}, source.time)"
    listed = aggregate.listed(series)
    if level not in series.levels:
        made = aggregate.select(
            series, f"date_bin({level.interval}, source.time, TIMESTAMPTZ 'epoch')", of_samples=True
        )
        text, name = "", f"(SELECT source.{subject}, {made} FROM {_named(series.name)} AS source GROUP BY 1, 2)"
    elif series.rollup(level) in there:
        text = "".join(
            f"ALTER MATERIALIZED VIEW {name} ADD COLUMN {quoted(each.name)} {each.type}"
            f" GENERATED ALWAYS AS ({each.made(of_samples=finest)}) STORED;\n"
            for each in aggregate.missing(series, level, there)
        )
    else:
        text = (
            f"CREATE MATERIALIZED VIEW {name} WITH (timescaledb.continuous, timescaledb.materialized_only = false)"
            f" AS SELECT source.{subject}, {aggregate.select(series, bucket, of_samples=finest)}"
            f" FROM {_named(finer)} AS source GROUP BY source.{subject}, {bucket} WITH NO DATA;\n"
            f"SELECT set_chunk_time_interval('{name}', INTERVAL '{_CHUNKS[level].days} days');\n"
        )
        if level is not DAY:
            text += f"ALTER MATERIALIZED VIEW {name} SET (timescaledb.compress = true);\n"
    return f"{text}{_view(series, level, name, listed)}"


def _view(series: Series, level: Level, source: str, listed: str) -> str:
    """Return what makes the level's view of a source: with host and label."""
    view, join = f"SELECT bucket.host, {listed} FROM {source} AS bucket", ""
    if series.subject != "host":
        view = f"SELECT entity.host, entity.key, entity.label, bucket.entity_id, {listed} FROM {source} AS bucket"
        join = " JOIN homelab.entity ON entity.id = bucket.entity_id"
    return f"CREATE OR REPLACE VIEW {_named(series.view(level))} AS {view}{join};\n"
