"""PostgreSQL is away for a day of samples, then has all of it: rows, what they come to, and why some are missing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import asyncpg
import pytest

from homelab_agent.core.clock import Drift, Instant, SystemClock
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.spool import Row
from homelab_agent.database.address import Address
from homelab_agent.database.database import Database
from homelab_agent.database.partitions import ensure, month
from homelab_agent.database.rollups import timescale
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.level import DAY, LEVELS
from homelab_agent.database.rollups.upkeep import Rollups
from homelab_agent.database.settings import DatabaseSettings
from homelab_agent.metrics import rows
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.sample import Quality, Reading, Sample, Status
from homelab_agent.metrics.silences import Silences
from homelab_agent.metrics.ticker import Tick
from tests.clock import until
from tests.founded import foundation
from tests.neighbours.postgres import Postgres
from tests.rolled import a_run, run_policies

INTERVAL = 10
OLD_DAYS = 100
ORDERED = """
SELECT coalesce(bool_and(ordered), true) AS ordered FROM (
    SELECT time >= lag(time) OVER (ORDER BY xmin::text::bigint, time) AS ordered FROM tick WHERE time >= $1) AS pair
"""


@dataclass(frozen=True, slots=True)
class Life:
    """An agent from its start to its end; after `asleep` seconds of sleep in the middle it goes on."""

    begin: datetime
    end: datetime
    boot: float
    asleep: tuple[datetime, int] | None = None


def day_of(midnight: datetime) -> Sequence[Life]:
    """Return the lives of a day: asleep from 6 to 7, the agent down from 12:00 to 12:10, the host off from 18 to 19."""
    hours = [midnight + timedelta(hours=hour) for hour in (0, 6, 12, 18, 19, 24)]
    return [
        Life(hours[0], hours[2], boot=1000, asleep=(hours[1], 3600)),
        Life(hours[2] + timedelta(minutes=10), hours[3], boot=44_200),
        Life(hours[4] + timedelta(minutes=1), hours[5], boot=60),
    ]


def sampled(life: Life) -> Sequence[tuple[Sample, Sequence[Row]]]:
    """Return the samples of a life, each with its rows, as the sampler makes them of its ticks."""
    memory = Host("here").entities.get("memory", "total")
    silences, found = Silences("here"), []
    at = life.begin
    while at < life.end:
        slept = 0.0
        if life.asleep and at == life.asleep[0]:
            slept = life.asleep[1]
            at += timedelta(seconds=slept)
        since = (at - life.begin).total_seconds()
        tick = Tick(at, Instant(at, life.boot + since - slept, life.boot + since), 0, Drift(0.0, slept))
        number = int(at.timestamp()) // INTERVAL
        reading = Reading(memory, {"used_pct": number % 400 / 4, "used_bytes": number, "reset": number % 3 == 0})
        sample = Sample(at, {"memory": [reading]}, quality(tick))
        found.append((sample, [*silences.before(sample, tick, INTERVAL), *rows.of_sample(sample, "here")]))
        silences.ended(sample, lost=False)
        at += timedelta(seconds=INTERVAL)
    return found


def quality(tick: Tick) -> Quality:
    """Return that of a sample which was taken in time while PostgreSQL was away."""
    return Quality(
        tick.due, tick.at.wall, 0.0, 1.0, tick.drift.step, tick.drift.asleep, 0, 0, spooled=True,
        clock_synchronised=True, collectors={"memory": (Status.OK, 0.25)},
    )  # fmt: skip


@pytest.mark.timeout(180)
async def test_a_day_without_postgresql_is_caught_up_while_old_months_go_and_all_is_rolled_up(
    any_postgres: Postgres, tmp_path: Path
) -> None:
    """A day at 10 s: 8,274 samples, put as fast as the spool takes them."""
    midnight = DAY.floor(SystemClock().read().wall) - timedelta(days=1)
    async with foundation(tmp_path, any_postgres.url) as base:
        await base.database.wait_until_up()
        rollups = Rollups(database_of(base), SystemClock(), Keep.of(DatabaseSettings()))
        await rollups.make()
        await put_one(database_of(base), midnight - timedelta(days=OLD_DAYS))
        entity = Host("here").entities.get("memory", "total")
        await base.spool.put(rows.of_entities([entity], "here", midnight), promise=True)
        await until(lambda: not base.spool.status().rows_disk, "the entity to be shipped")
        assert (await rollups.roll(a_run())).ok
        await asyncio.to_thread(any_postgres.stop)

        taken = [pair for life in day_of(midnight) for pair in sampled(life)]
        for _, parcel in taken:
            await base.spool.put(parcel)
        status = base.spool.status()
        assert status.rows_memory + status.rows_disk == sum(len(parcel) for _, parcel in taken)
        await asyncio.to_thread(any_postgres.start)
        await base.database.wait_until_up()
        await caught_up(base, rollups)
        await check(database_of(base), [sample for sample, _ in taken], midnight)


def database_of(base: Foundation) -> Database:
    """Return the database itself."""
    assert isinstance(base.database, Database)
    return base.database


async def put_one(database: Database, at: datetime) -> None:
    """Put a sample of that time."""
    async with database.acquire() as connection:
        if database.edition is not None and database.edition.name == "plain":
            await ensure(connection, "memory_sample", [month(at)])
        await connection.execute("INSERT INTO memory_sample (entity_id, time, used_pct) VALUES (7, $1, 50)", at)


async def caught_up(base: Foundation, rollups: Rollups) -> None:
    """Let what old is go and all be rolled up, again and again, until nothing waits any more; then once more."""
    waiting = True
    while waiting:
        status = base.spool.status()
        waiting = bool(status.rows_memory + status.rows_disk)
        assert (await rollups.roll(a_run())).ok
        await rollups.expire()
        async with base.database.acquire() as connection:
            if (edition := database_of(base).edition) is not None and edition.name == "timescale":
                await run_policies(connection, timescale.REFRESH)
                await run_policies(connection, timescale.RETENTION)


async def check(database: Database, given: Sequence[Sample], midnight: datetime) -> None:
    """Fail unless each sample is there once, in order, with what all come to and why the missing ones are."""
    times = [sample.at for sample in given]
    found = await database.fetch("SELECT time, used_pct, used_bytes FROM memory WHERE host = 'here' ORDER BY time")
    values = [sample.families["memory"][0].values for sample in given]
    assert [tuple(row) for row in found] == [
        (at, one["used_pct"], one["used_bytes"]) for at, one in zip(times, values, strict=True)
    ]
    ticks = await database.fetch("SELECT time FROM tick WHERE spooled ORDER BY time")
    assert [row["time"] for row in ticks] == times
    assert [row["ordered"] for row in await database.fetch(ORDERED, midnight)] == [True]
    assert not await database.fetch("SELECT FROM memory_sample WHERE entity_id = 7"), "an old month has gone"
    for level in LEVELS:
        buckets: dict[datetime, list[float]] = {}
        for at, one in zip(times, values, strict=True):
            buckets.setdefault(level.floor(at), []).append(float(str(one["used_pct"])))
        rolled = await database.fetch(f"SELECT * FROM memory_{level.name} WHERE host = 'here' ORDER BY time")
        assert [
            (row["time"], row["samples"], row["used_pct_count"], row["used_pct_min"], row["used_pct_max"])
            for row in rolled
        ] == [(at, len(group), len(group), min(group), max(group)) for at, group in buckets.items()]
        for row, group in zip(rolled, buckets.values(), strict=True):
            assert row["used_pct_avg"] == pytest.approx(sum(group) / len(group), rel=1e-5)
    assert not await database.fetch("SELECT * FROM gap")
    holes = [pair for pair in pairwise(times) if pair[1] - pair[0] > timedelta(seconds=INTERVAL)]
    silences = await database.fetch("SELECT from_at, to_at, cause FROM silence ORDER BY from_at")
    causes = [(row["from_at"], row["to_at"], row["cause"]) for row in silences]
    off, on = holes[2]
    booted = on - timedelta(seconds=60)
    assert causes == [
        (*holes[0], "suspended"),
        (*holes[1], "agent down"),
        (off, booted, "host off"),
        (booted, on, "agent down"),
    ]


async def test_a_month_that_cannot_go_because_rows_come_just_then_goes_the_next_time(
    postgres: Postgres, tmp_path: Path
) -> None:
    """An insert has its table before the series' lock, who drops a month has them the other way round."""
    now = DAY.floor(SystemClock().read().wall)
    async with foundation(tmp_path, postgres.url) as base:
        await base.database.wait_until_up()
        rollups = Rollups(database_of(base), SystemClock(), Keep.of(DatabaseSettings()))
        for at in (now - timedelta(days=OLD_DAYS), now):
            await put_one(database_of(base), at)
        assert (await rollups.roll(a_run())).ok
        inserting = await asyncpg.connect(**Address.of_url(postgres.url).options)
        try:
            async with inserting.transaction():
                await inserting.execute("LOCK TABLE homelab.memory_sample IN ROW EXCLUSIVE MODE")  # as an insert does
                expiring = asyncio.ensure_future(rollups.expire())
                while not await base.database.fetch("SELECT FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await inserting.execute("INSERT INTO homelab.memory_sample (entity_id, time) VALUES (8, $1)", now)
                await expiring
        finally:
            await inserting.close()
        await rollups.expire()
        assert [
            row["time"] for row in await base.database.fetch("SELECT time FROM memory_sample WHERE entity_id = 7")
        ] == [now]
