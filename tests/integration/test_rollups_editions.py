"""Every edition answers the same questions about years alike, by the same names and the same SQL."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from homelab_agent.core.clock import SystemClock
from homelab_agent.database import editions, info, migrations, partitions
from homelab_agent.database.address import Address
from homelab_agent.database.pool import Connection
from homelab_agent.database.rollups import timescale
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.level import DAY, HOUR, LEVELS
from homelab_agent.database.rollups.upkeep import Rollups
from homelab_agent.database.settings import DatabaseSettings
from tests.agent import Agent
from tests.neighbours.postgres import Postgres
from tests.rolled import KEEP, a_run, every, made, probing, run_policies
from tests.shipping import reaching
from tests.waiting import until

ENTITIES = """
INSERT INTO homelab.entity VALUES (1, 'here', 'load', '', 'total'), (2, 'there', 'load', '', 'total')
"""
SEED = """
INSERT INTO homelab.load_sample (entity_id, time, load1, threads, uptime_s)
    SELECT entity, time, nullif(number % 7, 3), 200 + entity, number * 1800
      FROM unnest(ARRAY[1, 2]) AS entity, generate_series(1, 48 * 90) AS number, unnest(ARRAY[0, 10]) AS second,
           LATERAL (SELECT $1::timestamptz - (number * 1800 - second) * INTERVAL '1 second' AS time) AS past
"""
BY_VIEW = """
SELECT date_bin($3, time, TIMESTAMPTZ 'epoch') AS at, host, label, sum(samples) AS samples, max(load1_max) AS highest,
       sum(load1_avg * load1_count) / nullif(sum(load1_count), 0) AS mean, min(threads_min) AS fewest
  FROM load_{level} WHERE host = 'here' AND time >= $1 AND time < $2 GROUP BY 1, 2, 3 ORDER BY 1
"""
BY_HAND = """
SELECT date_bin($3, time, TIMESTAMPTZ 'epoch') AS at, host, label, count(*) AS samples, max(load1) AS highest,
       avg(load1) AS mean, min(threads) AS fewest
  FROM load WHERE host = 'here' AND time >= $1 AND time < $2 GROUP BY 1, 2, 3 ORDER BY 1
"""
POLICIES = """
SELECT coalesce(view_name, jobs.hypertable_name) AS name, proc_name AS what,
       coalesce(config ->> 'drop_after', config ->> 'compress_after', config ->> 'start_offset')::interval AS after
  FROM timescaledb_information.jobs LEFT JOIN timescaledb_information.continuous_aggregates
    ON jobs.hypertable_name IN (view_name, materialization_hypertable_name)
 WHERE job_id >= 1000
"""
COLUMNS = """
SELECT column_name, data_type FROM information_schema.columns
 WHERE table_schema = 'homelab' AND table_name = $1 ORDER BY ordinal_position
"""
FILES = {edition: migrations.load(edition) for edition in (editions.PLAIN, editions.TIMESCALE)}


async def test_years_are_asked_for_alike_on_every_edition_though_the_samples_are_gone(
    any_postgres: Postgres, tmp_path: Path
) -> None:
    now = HOUR.floor(SystemClock().read().wall)
    await as_it_was_before_there_were_rollups(any_postgres, now)
    async with reaching(any_postgres.url, tmp_path, SystemClock()) as database, database.acquire() as connection:
        by_hand = {level: await connection.fetch(BY_HAND, *asked) for level, asked in questions(now).items()}
        rollups = Rollups(database, SystemClock(), Keep.of(DatabaseSettings()))
        outcome = await rollups.roll(a_run())
        assert outcome.ok, outcome.detail
        assert await connection.fetch(COLUMNS, "load_1m") == await connection.fetch(COLUMNS, "load_1d")
        assert [tuple(row) for row in await connection.fetch(COLUMNS, "load_1h")][:10] == [
            ("host", "text"),
            ("key", "text"),
            ("label", "text"),
            ("entity_id", "bigint"),
            ("time", "timestamp with time zone"),
            ("samples", "integer"),
            ("uptime_s_avg", "double precision"),
            ("uptime_s_min", "double precision"),
            ("uptime_s_max", "double precision"),
            ("uptime_s_count", "integer"),
        ]
        sizes = {table.name: table.bytes for table in (await info.read(connection, edition_of(rollups))).tables}
        assert all(sizes[f"load_{level}_rollup"] > 8192 for level in ("1m", "1h", "1d"))
        await drop_what_is_old(rollups, connection)
        assert await connection.fetchval("SELECT min(time) FROM load") > now - timedelta(days=62)
        for level, asked in questions(now).items():
            alike(await connection.fetch(BY_VIEW.format(level=level), *asked), by_hand[level])

        late = [now - timedelta(days=days, minutes=1) for days in (3, 80)]
        for at in late:  # the second is older than what is kept, and would now be the only one of its day
            await put(connection, rollups, at)
        assert (await rollups.roll(a_run())).ok
        await refreshed(connection, rollups)
        days = await connection.fetch("SELECT time, samples FROM load_1d WHERE label = 'total' AND host = 'here'")
        count = {row["time"]: row["samples"] for row in days}
        assert [count[DAY.floor(at)] for at in late] == [97, 96]
        await drop_what_is_old(rollups, connection)
        assert await connection.fetch("SELECT time, samples FROM load_1d WHERE host = 'here'") == days


async def as_it_was_before_there_were_rollups(server: Postgres, now: datetime) -> None:
    """Make the schema of before, with 90 days of samples."""
    connection = await asyncpg.connect(**Address.of_url(server.url).options)
    edition = (await editions.prepare(connection)).name
    before = [
        file for file in FILES[edition] if file.key < ("database", 3) or ("database", 4) < file.key < ("metrics", 10)
    ]
    await migrations.apply(connection, before, edition=edition)
    if edition == editions.PLAIN:
        await partitions.ensure(
            connection, "load_sample", {partitions.month(now - timedelta(days=n)) for n in range(91)}
        )
    await connection.execute(ENTITIES)
    await connection.execute(SEED, now)
    await connection.close()


def questions(now: datetime) -> dict[str, tuple[datetime, datetime, timedelta]]:
    """Return what is asked of each level: from when until when, in steps of which width."""
    return {
        "1m": (now - timedelta(hours=24), now, timedelta(hours=1)),
        "1h": (now - timedelta(hours=1), now, timedelta(hours=1)),
        "1d": (DAY.floor(now) - timedelta(days=88), now, timedelta(days=1)),
    }


def alike(found: Sequence[asyncpg.Record], wanted: Sequence[asyncpg.Record]) -> None:
    """Fail unless two answers are the same, as far as six digits tell."""
    assert len(found) == len(wanted) > 0
    for one, other in zip(found, wanted, strict=True):
        assert {**one, "mean": None} == {**other, "mean": None}
        assert one["mean"] == pytest.approx(other["mean"], rel=1e-5)


async def put(connection: Connection, rollups: Rollups, at: datetime) -> None:
    """Put a row of that time, as the shipper does."""
    if not is_timescale(rollups):
        await partitions.ensure(connection, "load_sample", [partitions.month(at)])
    await connection.execute("INSERT INTO load_sample (entity_id, time) VALUES (1, $1)", at)


async def refreshed(connection: Connection, rollups: Rollups) -> None:
    """Let TimescaleDB's hour come."""
    if is_timescale(rollups):
        await run_policies(connection, timescale.REFRESH)


async def drop_what_is_old(rollups: Rollups, connection: Connection) -> None:
    """Let the hour come in which what is old is dropped and compressed."""
    await rollups.expire()
    if is_timescale(rollups):
        await run_policies(connection, timescale.COLUMNSTORE)
        await run_policies(connection, timescale.RETENTION)


def is_timescale(rollups: Rollups) -> bool:
    return edition_of(rollups).name == editions.TIMESCALE


def edition_of(rollups: Rollups) -> editions.Edition:
    assert rollups.database.edition is not None
    return rollups.database.edition


async def test_a_column_that_comes_later_is_rolled_up_from_then_on(any_postgres: Postgres) -> None:
    now = HOUR.floor(SystemClock().read().wall)
    async with probing(any_postgres) as probe:
        before = every(600, now - timedelta(hours=30), 60)
        await probe.insert(before)
        await probe.roll(now)
        await probe.connection.execute("ALTER TABLE homelab.probe_sample ADD COLUMN extra integer")
        for _ in range(2):  # the second has nothing to do
            longer = await made(probe.connection, probe.edition)
        after = every(600, now - timedelta(hours=20), 30)
        await longer.insert(after)
        await probe.connection.execute("UPDATE homelab.probe_sample SET extra = 7 WHERE time = $1", after[5].time)
        await longer.roll(now)
        await longer.check([*before, *after])
        for level in LEVELS:
            found = {row["time"]: (row["extra_avg"], row["extra_count"]) for row in await longer.rows(level)}
            assert found.pop(level.floor(after[5].time)) == (7.0, 1)
            assert set(found.values()) <= {(None, 0), (None, None)}


async def test_a_changed_key_is_applied_at_the_next_start(postgres_timescale: Postgres, tmp_path: Path) -> None:
    async with reaching(postgres_timescale.url, tmp_path, SystemClock()) as database:
        for days in (30, 40):
            keep = Keep.of(DatabaseSettings(keep_samples=days, columnstore_after=days - 20))
            await Rollups(database, SystemClock(), keep).make()
            rows = await database.fetch(POLICIES)
            assert {row["what"]: row["after"] for row in rows if row["name"] == "cpu_sample"} == {
                timescale.RETENTION: timedelta(days=days),
                timescale.COLUMNSTORE: timedelta(days=days - 20),
            }
            windows = {row["after"] for row in rows if row["what"] == timescale.REFRESH}
            assert windows == {timedelta(days=days - 20)}
            assert len(rows) == len({(row["name"], row["what"]) for row in rows})


async def test_what_comes_late_is_in_the_aggregates_of_timescaledb_too(postgres_timescale: Postgres) -> None:
    now, keep = DAY.floor(SystemClock().read().wall), replace(KEEP, samples=timedelta(days=14))
    chance = random.Random(11)
    async with probing(postgres_timescale) as probe:
        await probe.roll(now, keep)
        given = [each for entity in (1, 2, 3) for each in every(1800, now - timedelta(days=11), 500, entity=entity)]
        chance.shuffle(given)
        for first in range(0, len(given), 500):
            await probe.insert(given[first : first + 500])
            await probe.roll(now, keep)
            await run_policies(probe.connection, timescale.RETENTION)
            await run_policies(probe.connection, timescale.COLUMNSTORE)
        await probe.roll(now + timedelta(days=1, seconds=1), keep)
        await probe.check(given)


def test_an_agent_makes_them_at_its_start_and_keeps_them_by_its_jobs(agent: Agent) -> None:
    agent.start_with_database()
    until(lambda: agent.sql("SELECT FROM pg_views WHERE viewname = 'tick_1d'"), "the last view is made")
    until(lambda: agent.sql("SELECT samples FROM cpu_1d"), "what has just been sampled is in it")
    for job, words in (("rollups", "series rolled up"), ("partitions", "no month is old enough")):
        done = agent.run("jobs", "run", f"database.{job}")
        assert done.returncode == 0, done.stderr
        assert words in done.stdout
