"""What is in the spool gets into PostgreSQL: once, in order, whatever happens to PostgreSQL meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import homelab_agent
from homelab_agent.core.clock import Clock, SystemClock
from homelab_agent.core.errors import NeighbourUnreachable
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.core.spool import Row, Scalar, Spool
from homelab_agent.core.state import State
from homelab_agent.database import shipper
from homelab_agent.database.database import Database
from homelab_agent.database.settings import DatabaseSettings
from homelab_agent.database.shipper import Shipper
from tests.clock import MovableClock, until
from tests.neighbours.postgres import PASSWORD, Postgres

SCHEMA = Path(homelab_agent.__file__).parent / "core/schema/state.sql"
BEGIN = datetime(2026, 11, 30, 23, 0, tzinfo=UTC)
TABLES = """
CREATE TABLE homelab.x_sample (entity_id bigint, time timestamptz, value real, count smallint CHECK (count < 1000),
    PRIMARY KEY (entity_id, time)) PARTITION BY RANGE (time);
CREATE TABLE homelab.child (id bigint PRIMARY KEY REFERENCES homelab.entity (id), name text NOT NULL);
CREATE TABLE homelab.odd (id uuid PRIMARY KEY, address inet, amount numeric, extra jsonb, note varchar(3), day date);
"""


@dataclass
class Way:
    """The whole way, from the spool to PostgreSQL."""

    spool: Spool
    state: State
    database: Database
    shipper: Shipper
    server: Postgres

    async def empty(self, *, seconds: float = 30) -> None:
        status = self.spool.status
        await until(lambda: not status().rows_memory + status().rows_disk, "the spool is empty", seconds=seconds)

    async def rejected(self, count: int) -> list[tuple[str, str]]:
        """Return table and reason of the rows that were refused, once there are `count` of them."""
        await until(lambda: self.shipper.rejected >= count, f"{count} rows are rejected")
        query = "SELECT table_name, reason FROM rejected ORDER BY id"
        async with asyncio.timeout(20):
            while True:
                await self.spool.tend()
                found = await self.state.read(lambda connection: connection.execute(query).fetchall())
                if len(found) >= count:
                    return found


@asynccontextmanager
async def way(
    server: Postgres, directory: Path, *, ship_every: float = 0.01, clock: Clock | None = None
) -> AsyncIterator[Way]:
    clock = clock or SystemClock()
    state = await State.open(directory, [SCHEMA], clock=clock)
    spool = Spool(state, clock, host="here", max_bytes=2**27, max_age=7 * 86400)
    database = Database(DatabaseSettings(url=server.url), Secrets(Redactor()), directory=directory, clock=clock)
    shipper = Shipper(database, spool, clock, ship_every)
    tasks = [asyncio.create_task(task) for task in (database.run(), shipper.run())]
    try:
        await asyncio.wait_for(database.wait_until_up(), 20)
        await database.fetch("SELECT 1")
        yield Way(spool, state, database, shipper, server)
    finally:
        for task in reversed(tasks):
            task.cancel()
            await asyncio.wait([task])
        await spool.close()
        await state.close()


def sample(number: int, **more: Scalar) -> Row:
    at = BEGIN + timedelta(seconds=number)
    values: dict[str, Scalar] = {"entity_id": 1, "time": at, "value": number / 3, "count": number % 1000}
    return Row("x_sample", ("entity_id", "time"), {**values, **more}, at)


async def test_every_row_arrives_once_and_in_order_though_postgresql_is_killed(
    postgres: Postgres, tmp_path: Path
) -> None:
    chance = random.Random(7)
    async with way(postgres, tmp_path) as there:
        postgres.psql(TABLES + "ALTER TABLE homelab.x_sample ADD COLUMN arrived bigserial")
        number = 0
        for _ in range(5):
            for _ in range(40):
                await there.spool.put([sample(number + n) for n in range(15)], promise=chance.random() < 0.1)
                number += 15
                await asyncio.sleep(0)
            await asyncio.sleep(chance.random() / 20)
            await asyncio.to_thread(postgres.kill)
            await there.spool.put([sample(number)])
            number += 1
            await asyncio.to_thread(postgres.start)
        await there.empty()
    rows = postgres.psql("SELECT extract(epoch FROM time)::bigint FROM homelab.x_sample ORDER BY arrived").splitlines()
    assert [int(row) - int(BEGIN.timestamp()) for row in rows] == list(range(number))


async def test_ten_minutes_without_postgresql_are_caught_up_at_once_when_it_is_back(
    postgres: Postgres, tmp_path: Path
) -> None:
    async with way(postgres, tmp_path) as there:
        postgres.psql(TABLES)
        await asyncio.to_thread(postgres.stop)
        for number in range(60):
            await there.spool.put([sample(number * 15 + n) for n in range(15)])
        await until(lambda: bool(there.shipper.trouble) or not there.database.is_up, "the loss is noticed")
        await asyncio.to_thread(postgres.start)
        await there.empty(seconds=35)
    assert postgres.psql("SELECT count(*), count(DISTINCT time) FROM homelab.x_sample") == "900|900"


async def test_a_row_that_postgresql_refuses_is_set_aside_and_holds_up_no_other(
    postgres: Postgres, tmp_path: Path
) -> None:
    async with way(postgres, tmp_path) as there:
        postgres.psql(TABLES)
        bad: dict[int, dict[str, Scalar]] = {
            3: {"count": 2000},
            40: {"count": 10**9},
            41: {"value": "much"},
            77: {"count": 1001},
        }
        await there.spool.put([sample(n, **bad.get(n, {})) for n in range(100)])
        await there.spool.put([Row("child", ("id",), {"id": 9, "name": "orphan"}, BEGIN)])
        await there.spool.put([Row("child", ("id",), {"id": 10, "name": None}, BEGIN)])
        await there.empty()
        reasons = await there.rejected(6)
    assert postgres.psql("SELECT count(*) FROM homelab.x_sample") == "96"
    assert sorted(table for table, _ in reasons) == ["child", "child", *["x_sample"] * 4]
    for words in ("check constraint", "value out of", "foreign key", "null value"):
        assert any(words in reason for _, reason in reasons), (words, reasons)


REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '{code}'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON homelab.x_sample EXECUTE FUNCTION refuse();
"""


@pytest.mark.parametrize("code", ["XX999", "54000", "42501", "P0001"])
async def test_an_error_that_nobody_knows_keeps_every_row_until_it_is_over(
    code: str, postgres: Postgres, tmp_path: Path
) -> None:
    async with way(postgres, tmp_path) as there:
        postgres.psql(TABLES + REFUSE.format(code=code))
        await there.spool.put([sample(n) for n in range(50)])
        await until(lambda: there.shipper.trouble, "it has been tried")
        assert "not now" in there.shipper.trouble
        assert (there.shipper.shipped, there.shipper.rejected) == (0, 0)
        postgres.psql("DROP TRIGGER refuse ON homelab.x_sample")
        await until(lambda: there.shipper.shipped == 50, "all are there")
        assert there.shipper.rejected == 0
    assert postgres.psql("SELECT count(*), count(DISTINCT time) FROM homelab.x_sample") == "50|50"


async def test_the_same_key_with_the_same_content_is_nothing_new_and_with_other_content_is_rejected(
    postgres: Postgres, tmp_path: Path
) -> None:
    async with way(postgres, tmp_path) as there:
        postgres.psql(TABLES)
        await there.spool.put([sample(n) for n in range(50)])
        await there.empty()
        await there.spool.put([sample(n, **({"value": 4711.5} if n == 20 else {})) for n in range(50)])
        await there.spool.put([sample(60), sample(60, value=1.5)])
        await there.empty()
        assert [reason for _, reason in await there.rejected(2)] == [
            "x_sample holds this entity_id, time with other content"
        ] * 2
    assert postgres.psql("SELECT count(*), max(value) < 21 FROM homelab.x_sample") == "51|t"


async def test_rows_without_a_place_are_rejected_with_the_reason(postgres: Postgres, tmp_path: Path) -> None:
    async with way(postgres, tmp_path) as there:
        postgres.psql(TABLES)
        await there.spool.put([Row('no "such', ("id",), {"id": 1}, BEGIN)])
        await there.spool.put([sample(1, colour="red"), sample(2)])
        await there.spool.put([Row("x_sample", ("entity_id",), {"entity_id": 5, "time": None}, BEGIN)])
        await there.empty()
        assert [reason for _, reason in await there.rejected(3)] == [
            'there is no table no "such', "x_sample has no column colour", "time is not a time",
        ]  # fmt: skip
    assert postgres.psql("SELECT count(*) FROM homelab.x_sample") == "1"


async def test_a_missing_partition_is_made_and_never_a_reason_to_reject(postgres: Postgres, tmp_path: Path) -> None:
    async with way(postgres, tmp_path) as there:
        postgres.psql(TABLES)
        await there.spool.put([sample(0), sample(7200), sample(86400 * 400)])
        await there.empty()
        postgres.psql("DROP TABLE homelab.x_sample_y2026m12")
        await there.spool.put([sample(7201)])
        await there.empty()
        assert await there.rejected(0) == []
    leaves = "pg_partition_tree('homelab.x_sample') AS part ON part.relid = pg_class.oid AND isleaf"
    parts = postgres.psql(f"SELECT relname FROM pg_class JOIN {leaves}").split()
    assert sorted(parts) == ["x_sample_y2026m11", "x_sample_y2026m12", "x_sample_y2028m01"]
    assert postgres.psql("SELECT count(*) FROM homelab.x_sample") == "3"


async def test_entities_go_before_the_rows_of_the_same_batch_that_point_to_them(
    postgres: Postgres, tmp_path: Path
) -> None:
    async with way(postgres, tmp_path) as there:
        postgres.psql(TABLES)
        entity: dict[str, Scalar] = {"id": 9, "host": "here", "family": "disk", "key": "sn", "label": "sda"}
        await there.spool.put(
            [Row("child", ("id",), {"id": 9, "name": "sda"}, BEGIN), Row("entity", ("id",), entity, BEGIN)]
        )
        await there.empty()
        assert await there.rejected(0) == []


async def test_values_keep_their_type_and_too_long_is_refused_not_cut(postgres: Postgres, tmp_path: Path) -> None:
    key = "018f9c2e-0000-7000-8000-000000000001"
    values: dict[str, Scalar] = {
        "id": key, "address": "10.0.0.0/8", "amount": "1.10", "extra": {"a": [1, None, "ü"]}, "note": "abc",
        "day": "2026-02-28",
    }  # fmt: skip
    async with way(postgres, tmp_path) as there:
        postgres.psql(TABLES)
        for changed in ({}, {}, {"id": key[:-1] + "2", "note": "abcd"}, {"id": key[:-1] + "3", "day": "2026-02-30"}):
            await there.spool.put([Row("odd", ("id",), {**values, **changed}, BEGIN)])
        await there.empty()
        assert len(await there.rejected(2)) == 2
    assert postgres.psql("SELECT address, amount, extra, note, day FROM homelab.odd") == (
        '10.0.0.0/8|1.10|{"a": [1, null, "ü"]}|abc|2026-02-28'
    )


async def test_what_is_left_is_shipped_when_the_agent_stops(postgres: Postgres, tmp_path: Path) -> None:
    async with way(postgres, tmp_path, ship_every=3600) as there:
        postgres.psql(TABLES)
        await there.spool.put([sample(0)])
        await there.empty()
        await there.spool.put([sample(1)])
    assert postgres.psql("SELECT count(*) FROM homelab.x_sample") == "2"


async def test_a_shorter_wait_between_shipments_counts_at_once(postgres: Postgres, tmp_path: Path) -> None:
    clock = MovableClock()
    async with way(postgres, tmp_path, ship_every=3600, clock=clock) as there:
        postgres.psql(TABLES)
        await there.spool.put([sample(0)])
        await there.empty()
        await there.spool.put([sample(1)])
        await clock.advance(60)
        assert there.spool.status().rows_memory == 1
        there.shipper.adopt(30)
        await there.empty()


async def test_many_rows_do_not_wait_until_more_have_gathered(postgres: Postgres, tmp_path: Path) -> None:
    clock = MovableClock()
    async with way(postgres, tmp_path, ship_every=3600, clock=clock) as there:
        postgres.psql(TABLES)
        await there.spool.put([sample(0)])
        await there.empty()
        await there.spool.put([sample(number) for number in range(1, 100)])
        await clock.advance(shipper.LOOK_SECONDS)
        assert there.spool.status().rows_memory == 99
        await there.spool.put([sample(number) for number in range(100, 100 + shipper.MANY_ROWS)])
        await clock.advance(shipper.LOOK_SECONDS)
        await there.empty()


async def test_a_table_that_changed_under_the_shipper_is_looked_at_anew(postgres: Postgres, tmp_path: Path) -> None:
    async with way(postgres, tmp_path) as there:
        postgres.psql(TABLES)
        await there.spool.put([sample(0)])
        await there.empty()
        postgres.psql("ALTER TABLE homelab.x_sample ALTER COLUMN value TYPE numeric")
        await there.spool.put([sample(1)])
        await there.empty()
        assert await there.rejected(0) == []
    assert postgres.psql("SELECT count(*) FROM homelab.x_sample") == "2"


async def test_a_wrong_password_is_told_without_any(
    postgres: Postgres, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = "wr0ng-s3cret"
    postgres.change_password(wrong)
    url = postgres.url
    postgres.change_password(PASSWORD)
    database = Database(DatabaseSettings(url=url), Secrets(Redactor()), directory=tmp_path, clock=SystemClock())
    running = asyncio.create_task(database.run())
    await until(lambda: "password" in database.connection.detail, "the refusal is told")
    with pytest.raises(Exception, match="does not answer") as error:
        await database.fetch("SELECT 1")
    running.cancel()
    await asyncio.wait([running])
    said = capfd.readouterr()
    for text in (f"{error.value!r}{error.value}", repr(database.connection), said.out, said.err):
        assert wrong not in text


async def test_the_time_of_its_last_answer_is_known_while_it_answers(postgres: Postgres, tmp_path: Path) -> None:
    async with way(postgres, tmp_path) as there:
        first = there.database.round_trip_seconds
        await there.database.ping()
        second = there.database.round_trip_seconds
        assert first is not None
        assert second is not None
        assert first != second
        assert 0 < second < 1
        await asyncio.to_thread(postgres.stop)
        with pytest.raises(NeighbourUnreachable):
            await there.database.ping()
        assert there.database.round_trip_seconds is None


async def test_the_address_may_be_a_secret_kept_in_a_file(postgres: Postgres, tmp_path: Path) -> None:
    file = tmp_path / "url"
    await asyncio.to_thread(file.write_text, postgres.url)
    file.chmod(0o600)
    settings = DatabaseSettings(url=f"file:{file}")
    database = Database(settings, Secrets(Redactor()), directory=tmp_path, clock=SystemClock())
    running = asyncio.create_task(database.run())
    await asyncio.wait_for(database.wait_until_up(), 10)
    assert (await database.fetch("SELECT 1 AS one"))[0]["one"] == 1
    running.cancel()
    await asyncio.wait([running])
