"""What comes once a minute has no minutes that are kept beside its samples, and is asked for as everything is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from homelab_agent.core.clock import SystemClock
from homelab_agent.database.rollups import expiry, plain, timescale
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.level import DAY, HOUR, LEVELS, MINUTE
from homelab_agent.database.rollups.upkeep import Rollups
from homelab_agent.database.settings import DatabaseSettings
from tests.neighbours.postgres import Postgres
from tests.rolled import KEEP, TABLE, Sample, a_run, every, made, probing, run_policies
from tests.shipping import reaching

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SLOW = f"{TABLE} INSERT INTO homelab.slow_series VALUES ('probe_sample');"
KEPT = "SELECT count(*) FROM homelab.probe_1m_rollup"
AGGREGATES = "SELECT view_name FROM timescaledb_information.continuous_aggregates ORDER BY 1"
COLUMNS = """
SELECT table_name, column_name, data_type FROM information_schema.columns
 WHERE table_schema = 'homelab' AND table_name ~ '_1[mhd]$' ORDER BY table_name, ordinal_position
"""


@pytest.mark.parametrize(("seconds", "are_coarser"), [(10, True), (30, True), (60, False), (300, False), (3600, False)])
async def test_minutes_are_made_where_they_are_fewer_than_the_samples(
    postgres: Postgres, seconds: int, *, are_coarser: bool
) -> None:
    async with probing(postgres) as probe:
        await probe.insert(every(seconds, NOON - timedelta(hours=8), 28800 // seconds))
        await probe.insert(every(seconds, NOON - timedelta(hours=8), 28800 // seconds, entity=2))
        assert await plain.are_coarser(probe.connection, probe.series, NOON) is are_coarser


@pytest.mark.parametrize("minutes", [True, False])
async def test_when_nothing_came_lately_it_goes_on_as_before(postgres: Postgres, *, minutes: bool) -> None:
    async with probing(postgres) as probe:
        assert await plain.are_coarser(probe.connection, probe.series, NOON)
        await probe.insert(every(600, NOON - timedelta(days=2), 60))
        probe.minutes = minutes
        await probe.roll(NOON)
        assert await plain.are_coarser(probe.connection, probe.series, NOON) is minutes


async def test_hours_are_made_of_the_samples_and_minutes_only_when_asked_for(postgres: Postgres) -> None:
    async with probing(postgres) as probe:
        probe.minutes = False
        given = every(70, NOON - timedelta(days=3), 3700)
        await probe.insert(given)
        await probe.roll(NOON)
        await probe.check(given)
        late = every(70, NOON - timedelta(days=2, seconds=3), 100, entity=2)
        await probe.insert(late)
        await probe.roll(NOON)
        await probe.check([*given, *late])
        assert await probe.connection.fetchval("SELECT count(*) FROM homelab.rollup_late") == 0
        assert await probe.connection.fetchval(KEPT) == 0
        assert await probe.connection.fetchval("SELECT sum(samples) FROM homelab.probe_1h_rollup") > 3700


async def test_minutes_that_were_made_stay_and_so_do_samples_of_which_none_were(postgres: Postgres) -> None:
    keep = Keep(timedelta(days=10), timedelta(days=60), timedelta(days=36500), timedelta(days=8))
    begin, turn = NOON - timedelta(days=150), NOON - timedelta(days=100)
    async with probing(postgres) as probe:
        given = every(1800, begin, 7200)
        await probe.insert(given)
        await probe.roll(turn)
        hours = [dict(row) for row in await probe.rows(HOUR)]
        kept = await probe.connection.fetchval(KEPT)
        gone = await expiry.expire(probe.connection, probe.series, keep, turn)
        assert gone == ["probe_sample_y2026m06", "probe_sample_y2026m07"]
        assert await probe.connection.fetchval(KEPT) == kept, "minutes from before are there"
        probe.minutes = False
        await probe.roll(NOON)
        await probe.check(given)
        assert [dict(row) for row in await probe.rows(HOUR)] == hours
        assert await probe.connection.fetchval(KEPT) == kept, "and no more have come"
        await expiry.expire(probe.connection, probe.series, keep, NOON)
        first = await probe.connection.fetchval("SELECT min(time) FROM homelab.probe_sample")
        assert first == datetime(2026, 9, 1, tzinfo=UTC), (
            "not older than minutes are kept, though older than samples are"
        )
        assert (await probe.rows(MINUTE))[0]["time"] == first
        assert [dict(row) for row in await probe.rows(HOUR)] == hours
        await probe.insert([Sample(2, NOON - timedelta(days=days)) for days in (85, 120)])
        await probe.roll(NOON)
        assert [dict(row) for row in await probe.rows(HOUR)] == hours, (
            "what is gone is not done again of what comes late"
        )


async def test_timescaledb_makes_hours_of_the_samples_and_no_minutes(postgres_timescale: Postgres) -> None:
    now, keep = (
        DAY.floor(SystemClock().read().wall),
        replace(KEEP, samples=timedelta(days=14), minutes=timedelta(days=30)),
    )
    async with probing(postgres_timescale, table=SLOW) as probe:
        names = [row["view_name"] for row in await probe.connection.fetch(AGGREGATES)]
        assert names == ["probe_1d_rollup", "probe_1h_rollup"]
        await probe.roll(now, keep)
        given = [each for entity in (1, 2) for each in every(1800, now - timedelta(days=25), 1150, entity=entity)]
        await probe.insert(given)
        await probe.roll(now + timedelta(days=2), keep)  # a day later: what is older than the policies' window too
        for policy in (timescale.RETENTION, timescale.COLUMNSTORE):
            await run_policies(probe.connection, policy)
        await probe.check(given)


async def test_a_timescaledb_that_has_such_minutes_goes_on_making_them(postgres_timescale: Postgres) -> None:
    now, keep = DAY.floor(SystemClock().read().wall), replace(KEEP, samples=timedelta(days=14))
    async with probing(postgres_timescale) as before:  # its hours are made of minutes
        given = every(600, now - timedelta(days=5), 700)
        await before.insert(given)
        await before.roll(now, keep)
        await before.connection.execute("INSERT INTO homelab.slow_series VALUES ('probe_sample')")
        after = await made(before.connection, before.edition)
        assert after.series == before.series
        assert timescale.wanted(after.series, keep)["probe_sample"][timescale.RETENTION] == keep.samples
        await after.check(given)


async def test_both_editions_answer_with_the_same_columns(postgres: Postgres, postgres_timescale: Postgres) -> None:
    found = []
    for server in (postgres, postgres_timescale):
        async with probing(server, table=SLOW) as probe:
            found.append(await probe.connection.fetch(COLUMNS))
    assert found[0] == found[1]
    assert len({row["table_name"] for row in found[0]}) == len(LEVELS)


async def test_the_job_makes_minutes_of_what_comes_often_alone(postgres: Postgres, tmp_path: Path) -> None:
    clock = SystemClock()
    async with reaching(postgres.url, tmp_path, clock) as database, database.acquire() as connection:
        rollups = Rollups(database, clock, Keep.of(DatabaseSettings()))
        await rollups.make()
        await connection.execute(
            """
            INSERT INTO homelab.entity VALUES (1, 'here', 'load', '', 'total'), (2, 'here', 'filesystem', '', '/');
            SELECT homelab.make_partition(fact::regclass, now() - days * INTERVAL '1 day')
              FROM unnest(ARRAY['load_sample', 'filesystem_sample']) AS fact, generate_series(0, 1) AS days;
            INSERT INTO homelab.load_sample (entity_id, time, load1)
                SELECT 1, now() - n * INTERVAL '10 seconds', n FROM generate_series(1, 1000) AS n;
            INSERT INTO homelab.filesystem_sample (entity_id, time, used_bytes)
                SELECT 2, now() - n * INTERVAL '60 seconds', n FROM generate_series(1, 300) AS n;
            """
        )
        outcome = await rollups.roll(a_run())
        assert outcome.ok, outcome.detail
        assert await connection.fetchval("SELECT count(*) FROM load_1m_rollup") > 100
        assert await connection.fetchval("SELECT count(*) FROM filesystem_1m_rollup") == 0
        assert await connection.fetchval("SELECT sum(samples) FROM filesystem_1m") == 300
        assert await connection.fetchval("SELECT sum(samples) FROM filesystem_1h_rollup") > 200
        assert await connection.fetchval("SELECT sum(samples) FROM filesystem_1d") == 300
