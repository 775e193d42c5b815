"""What samples came to by minute, hour and day is right on every edition, whatever comes late, is killed or dropped."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homelab_agent.database import partitions
from homelab_agent.database.address import Address
from homelab_agent.database.pool import CANNOT_ASK, Connection
from homelab_agent.database.rollups import expiry, plain
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.level import DAY, HOUR, LEVELS, MINUTE, Level
from homelab_agent.database.rollups.series import Series
from tests.neighbours.postgres import Postgres
from tests.rolled import KEEP, Probe, Sample, every, probing

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)

# Six weeks before noon, so that months end in between; few places, so that rows meet in their buckets.
times = st.tuples(st.sampled_from([0, 1, 26, 27, 40]), st.integers(0, 23), st.integers(0, 3), st.integers(0, 50)).map(
    lambda at: NOON - timedelta(days=at[0], hours=at[1], minutes=at[2], seconds=at[3])
)
samples = st.builds(
    Sample,
    st.integers(1, 3),
    times,
    st.none() | st.floats(-100, 100, width=32),
    st.none() | st.integers(0, 2**60),
    st.none() | st.booleans(),
)
steps = st.lists(
    st.lists(samples, min_size=1, max_size=12)
    | st.integers(-26 * 1440, 60).map(lambda minutes: NOON + timedelta(minutes=minutes))
    | st.sampled_from(["expire", "with minutes", "without minutes"]),
    max_size=12,
)


MADE = "SELECT until FROM homelab.rollup WHERE level = '1m'"


def test_rollups_are_what_the_samples_come_to_in_whatever_order_all_happens(postgres: Postgres) -> None:
    with asyncio.Runner() as runner:
        context = probing(postgres)
        probe = runner.run(context.__aenter__())

        @settings(max_examples=30)
        @given(steps)
        def examples(steps: Sequence[Sequence[Sample] | datetime | str]) -> None:
            runner.run(probe.clear())
            runner.run(follow(probe, steps))

        examples()
        runner.run(context.__aexit__(None, None, None))


async def follow(probe: Probe, steps: Sequence[Sequence[Sample] | datetime | str]) -> None:
    """Do all that, then roll up, and check; a row from before what was dropped then no longer counts."""
    counted: dict[tuple[int, datetime], Sample] = {}
    rolled = dropped = datetime.min.replace(tzinfo=UTC)
    for step in steps:
        if isinstance(step, datetime):
            await probe.roll(step)
            rolled = max(rolled, DAY.floor(step - plain.LAG))
        elif step != "expire" and isinstance(step, str):
            probe.minutes = step == "with minutes"
        elif isinstance(step, str):
            made = await probe.connection.fetchval(MADE)  # samples of which no minutes were made stay
            if await expiry.expire(probe.connection, probe.series, KEEP, NOON):
                dropped = partitions.month(min(NOON - KEEP.samples, rolled, made))
        else:
            await probe.insert(step)
            for each in step:
                if each.time >= dropped:
                    counted.setdefault((each.entity, each.time), each)
    await probe.roll(NOON + timedelta(hours=2))
    await probe.check(counted.values())
    probe.minutes = True
    await probe.roll(NOON + timedelta(hours=2))
    await probe.check(counted.values())
    kept = await probe.connection.fetchval("SELECT count(*) FROM homelab.probe_1m_rollup")
    assert kept == len(await probe.rows(MINUTE)), "nothing is left to be rolled up"


async def test_what_comes_late_has_its_range_done_again_and_nothing_else(postgres: Postgres) -> None:
    async with probing(postgres) as probe:
        begin = NOON - timedelta(days=3)
        before = every(300, begin, 700)
        await probe.insert(before)
        await probe.roll(NOON)
        written = {level: await versions(probe, level) for level in LEVELS}
        late = every(10, begin + timedelta(days=1, hours=2, minutes=1, seconds=5), 20, entity=2)
        await probe.insert(late)
        await probe.roll(NOON)
        await probe.check([*before, *late])
        for level in LEVELS:
            touched = {level.floor(each.time) for each in late}
            changed = {
                key for key, version in (await versions(probe, level)).items() if written[level].get(key) != version
            }
            assert changed
            assert {at for _, at in changed} == touched
            assert await probe.connection.fetchval("SELECT count(*) FROM homelab.rollup_late") == 0


async def versions(probe: Probe, level: Level) -> dict[tuple[int, datetime], str]:
    """Return which transaction has written each row of a level."""
    rows = await probe.connection.fetch(
        f"SELECT entity_id, time, xmin::text AS version FROM homelab.{probe.series.rollup(level)}"
    )
    return {(row["entity_id"], row["time"]): row["version"] for row in rows}


async def test_rows_that_come_while_all_is_rolled_up_are_in_it_or_done_again(postgres: Postgres) -> None:
    chance = random.Random(3)
    async with probing(postgres) as probe:
        given = [each for entity in (1, 2, 3) for each in every(40, NOON, 750, entity=entity)]
        chance.shuffle(given)
        await partitions.ensure(probe.connection, probe.series.name, [partitions.month(NOON)])

        async def bring(share: Sequence[Sample]) -> None:
            async with connected(postgres, probe) as own:
                for first in range(0, len(share), 30):
                    async with own.connection.transaction():
                        await own.insert(share[first : first + 30])
                        await asyncio.sleep(0)

        async def roll() -> None:
            async with connected(postgres, probe) as own:
                for number in range(40):
                    await own.roll(NOON + timedelta(minutes=13 * number))

        await asyncio.gather(bring(given[:1100]), bring(given[1100:]), roll(), roll())
        await probe.roll(NOON + timedelta(days=1))
        await probe.check(given)


async def test_who_rolls_up_waits_for_rows_that_are_about_to_be_committed(postgres: Postgres) -> None:
    given = every(60, NOON, 300)
    async with probing(postgres) as probe, connected(postgres, probe) as other:
        await partitions.ensure(probe.connection, probe.series.name, [partitions.month(NOON)])
        async with other.connection.transaction():
            await other.insert(given)
            rolling = asyncio.create_task(probe.roll(NOON + timedelta(days=1)))
            await somebody_waits(postgres, probe)
        await rolling
        assert await probe.connection.fetchval("SELECT sum(samples) FROM homelab.probe_1h_rollup") == len(given)
        assert await probe.connection.fetchval("SELECT count(*) FROM homelab.rollup_late") == 0


async def test_rows_that_come_before_the_first_that_was_found_have_a_partition_to_be_rolled_up_into(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = every(60, NOON, 300)
    async with probing(postgres) as probe, connected(postgres, probe) as other:
        await probe.roll(NOON)  # from here on, and nothing is there
        alone, calls = plain.alone, itertools.count()

        @asynccontextmanager
        async def alone_after_rows_have_come(connection: Connection, series: Series) -> AsyncIterator[object]:
            if next(calls) == 1:  # the first asks from when on, before it is looked where the next row is
                await other.insert(given)
            async with alone(connection, series) as standing:
                yield standing

        monkeypatch.setattr(plain, "alone", alone_after_rows_have_come)
        await probe.roll(NOON + timedelta(days=1))
        await probe.check(given)


async def test_rows_that_come_during_a_step_are_held_against_how_far_that_came(postgres: Postgres) -> None:
    given = every(60, NOON, 300)
    async with probing(postgres) as probe, connected(postgres, probe) as other:
        await other.insert(given[:100])
        async with plain.alone(probe.connection, probe.series):
            inserting = asyncio.create_task(other.insert(given[100:]))
            await somebody_waits(postgres, probe)
            # Within this transaction nobody else comes in between, as for the step itself.
            await plain.roll(probe.connection, probe.series, NOON + timedelta(days=1))
        await inserting
        assert await probe.connection.fetchval("SELECT count(*) FROM homelab.rollup_late") > 0
        await probe.roll(NOON + timedelta(days=1))
        await probe.check(given)


async def somebody_waits(server: Postgres, probe: Probe) -> None:
    """Return when a session waits for another to let it roll up, or insert."""
    query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    async with connected(server, probe) as own, asyncio.timeout(30):
        while not await own.connection.fetchval(query):
            pass


async def test_nothing_is_doubled_or_missing_when_postgresql_is_killed_while_it_rolls_up(postgres: Postgres) -> None:
    given = [each for entity in (1, 2, 3) for each in every(240, NOON - timedelta(days=20), 7_200, entity=entity)]
    async with probing(postgres) as probe:
        await probe.insert(given[:15_000])
    for days in (13, 8):
        at = NOON - timedelta(days=days)
        await killed_while_rolling(postgres, probe, f"SELECT until >= '{at}' FROM homelab.rollup WHERE level = '1m'")
    async with connected(postgres, probe) as again:
        await again.roll(NOON)
        await again.insert(given[15_000:])
        count = await again.connection.fetchval("SELECT count(*) FROM homelab.rollup_late")
    await killed_while_rolling(postgres, probe, f"SELECT count(*) < {count // 2} FROM homelab.rollup_late")
    async with connected(postgres, probe) as again:
        await again.roll(NOON)
        await again.check(given)


async def killed_while_rolling(server: Postgres, probe: Probe, come_so_far: str) -> None:
    """Roll up, and kill PostgreSQL when that has come so far."""

    async def roll() -> None:
        with suppress(*CANNOT_ASK, asyncpg.InternalClientError):  # whatever it was doing
            async with connected(server, probe) as own:
                await own.roll(NOON)

    rolling = asyncio.create_task(roll())
    async with connected(server, probe) as own, asyncio.timeout(30):
        while not await own.connection.fetchval(come_so_far):
            pass
    await asyncio.to_thread(server.kill)
    await rolling
    await asyncio.to_thread(server.start)


async def test_what_somebody_reads_is_dropped_the_next_time(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "PATIENCE", "SET LOCAL lock_timeout = '100ms'")
    async with probing(postgres) as probe:
        given = every(3600, NOON - timedelta(days=40), 900)
        await probe.insert(given)
        await probe.roll(NOON)
        with postgres.locked("homelab.probe_sample", mode="ACCESS SHARE"):
            assert await expiry.expire(probe.connection, probe.series, KEEP, NOON) == []
        assert await expiry.expire(probe.connection, probe.series, KEEP, NOON) == ["probe_sample_y2026m10"]
        assert await expiry.expire(probe.connection, probe.series, KEEP, NOON) == []
        await probe.check(given)


async def test_each_level_goes_in_its_time_and_the_coarser_stays(postgres: Postgres) -> None:
    async with probing(postgres) as probe:
        given = every(3600, NOON - timedelta(days=150), 3600)
        await probe.insert(given)
        await probe.roll(NOON)
        days = [dict(row) for row in await probe.rows(DAY)]
        keep = Keep(timedelta(days=10), timedelta(days=40), timedelta(days=70), timedelta(days=8))
        await expiry.expire(probe.connection, probe.series, keep, NOON)
        first = {level: (await probe.rows(level))[0]["time"] for level in LEVELS}
        assert first[MINUTE] == datetime(2026, 10, 1, tzinfo=UTC)
        assert first[HOUR] == datetime(2026, 9, 1, tzinfo=UTC)
        await probe.insert([Sample(2, NOON - timedelta(days=days)) for days in (1, 60, 75, 140)])  # back from its month
        await probe.roll(NOON)
        assert [dict(row) for row in await probe.rows(DAY) if row["entity_id"] == 1] == days
        assert [row["time"] for row in await probe.rows(DAY) if row["entity_id"] == 2] == [DAY.floor(NOON) - DAY.width]
        resurrected = [f"probe_sample_y2026m{number:02}" for number in (7, 9)]
        assert await expiry.expire(probe.connection, probe.series, keep, NOON) == resurrected


@asynccontextmanager
async def connected(server: Postgres, probe: Probe) -> AsyncIterator[Probe]:
    """Give the same series on a connection of its own."""
    connection = await asyncpg.connect(**Address.of_url(server.url).options)
    try:
        yield Probe(connection, probe.edition, probe.series)
    finally:
        connection.terminate()
