"""From a real MongoDB's protocol into a real PostgreSQL: everything comes once, and that is proven."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from bson.binary import OLD_UUID_SUBTYPE, Binary

from homelab_agent.reading.document import Window
from homelab_agent.reading.order import Order
from tests.neighbours.mongodb import MongoDB
from tests.neighbours.postgres import Postgres
from tests.reading import DRIVER_LEAVES_A_SOCKET, NOON, articles, beside, library, object_id

pytestmark = DRIVER_LEAVES_A_SOCKET


async def test_everything_is_taken_in_one_run_and_marked(postgres: Postgres, mongodb: MongoDB, tmp_path: Path) -> None:
    await beside(mongodb.insert, [*articles(1234)])
    async with library(postgres.url, mongodb, tmp_path) as home:
        ended = await home.sync()
        assert (ended.status, str(ended.tally)) == ("ok", "inserted 1234, duplicate 0, marked 1234, rejected 0")
        assert ended.detail == "1234 rows of 1 day proven"
        assert await home.count("reading_analytics") == 1234
        [row] = await home.rows("SELECT * FROM reading_analytics WHERE mongo_id = $1", str(object_id(NOON, 7)))
        assert row["event_timestamp"] == NOON + timedelta(seconds=7)
        assert (row["source"], row["event_type"], row["origin"]) == ("pocket", "read", "atlas")
        assert row["meta"] == '{"device": "phone"}'
        [history] = await home.rows("SELECT * FROM sync_history")
        assert (history["status"], history["inserted"], history["marked"], history["backlog"]) == ("ok", 1234, 1234, 0)
        assert history["host"] == "testhost"
        [proven] = await home.rows("SELECT * FROM sync_proof")
        assert (proven["day"], proven["processed"], proven["stored"]) == ("2026-11-28", 1234, 1234)
        assert proven["source_hash"] == proven["stored_hash"]
    assert set((await beside(mongodb.statuses)).values()) == {"processed"}


async def test_a_second_run_takes_only_what_is_new(postgres: Postgres, mongodb: MongoDB, tmp_path: Path) -> None:
    await beside(mongodb.insert, [*articles(10)])
    async with library(postgres.url, mongodb, tmp_path) as home:
        await home.sync()
        await beside(mongodb.insert, [*articles(5, first=10)])
        assert str((await home.sync()).tally) == "inserted 5, duplicate 0, marked 5, rejected 0"
        assert str((await home.sync()).tally) == "inserted 0, duplicate 0, marked 0, rejected 0"
        assert await home.count("reading_analytics") == 15


async def test_what_was_stored_but_not_marked_is_marked_and_not_stored_twice(
    postgres: Postgres, mongodb: MongoDB, tmp_path: Path
) -> None:
    found = [*articles(20)]
    await beside(mongodb.insert, found)
    async with library(postgres.url, mongodb, tmp_path) as home:
        await home.sync()

        def forget() -> None:
            with mongodb.collection() as collection:
                collection.update_many({}, {"$set": {"status": "ingested"}})

        await beside(forget)
        assert str((await home.sync()).tally) == "inserted 0, duplicate 20, marked 20, rejected 0"
        assert await home.count("reading_analytics") == 20


async def test_whoever_changed_a_status_meanwhile_is_not_overruled(
    postgres: Postgres, mongodb: MongoDB, tmp_path: Path
) -> None:
    await beside(mongodb.insert, [*articles(3)])
    async with library(postgres.url, mongodb, tmp_path) as home, home.source.open() as opened:

        def hold() -> None:
            with mongodb.collection() as collection:
                collection.update_one({"_id": object_id(NOON, 1)}, {"$set": {"status": "held"}})

        batches = opened.batches({}, None)
        batch = await anext(batches)
        await beside(hold)
        assert await opened.acknowledge([one.key for one in batch.arrived], "processed", "run") == 2
        await batches.aclose()
    assert sorted((await beside(mongodb.statuses)).values()) == ["held", "processed", "processed"]


async def test_a_backfill_takes_a_window_again_whatever_was_marked(
    postgres: Postgres, mongodb: MongoDB, tmp_path: Path
) -> None:
    days = [NOON + timedelta(days=number) for number in range(3)]
    for number, day in enumerate(days):
        await beside(mongodb.insert, [*articles(10, first=100 * number, at=day)])
    async with library(postgres.url, mongodb, tmp_path) as home:
        await home.sync()
        await home.rows("DELETE FROM reading_analytics")
        midnight = datetime(2026, 11, 29, tzinfo=UTC)
        order = Order(Window(midnight, midnight + timedelta(days=1)))
        ended = await home.sync(order)
        assert (ended.status, str(ended.tally)) == ("ok", "inserted 10, duplicate 0, marked 0, rejected 0")
        [row] = await home.rows("SELECT stream, status FROM sync_history ORDER BY started_at DESC LIMIT 1")
        assert row == {"stream": order.stream, "status": "ok"}
        assert str((await home.sync(order)).tally) == "inserted 0, duplicate 10, marked 0, rejected 0"


async def test_a_backfill_that_was_cancelled_keeps_what_it_has_and_goes_on_from_there(
    postgres: Postgres, mongodb: MongoDB, tmp_path: Path
) -> None:
    await beside(mongodb.insert, [*articles(30)])
    async with library(postgres.url, mongodb, tmp_path, batch=10) as home:
        order, run = Order(Window(since=NOON - timedelta(hours=1))), home.new_run()
        run.on_progress = lambda _: run.cancelled.set()
        ended = await home.sync(order, run=run)
        assert (ended.status, ended.tally.inserted, ended.detail) == ("partial", 10, "it was asked to stop")
        ended = await home.sync(order)
        assert (ended.status, ended.tally.inserted, ended.tally.duplicate) == ("ok", 20, 0)


async def test_a_dry_run_counts_and_does_nothing(postgres: Postgres, mongodb: MongoDB, tmp_path: Path) -> None:
    await beside(mongodb.insert, [*articles(7), {"_id": "no time", "status": "ingested"}])
    async with library(postgres.url, mongodb, tmp_path) as home:
        ended = await home.sync(Order(dry_run=True))
        assert (ended.status, str(ended.tally)) == ("ok", "inserted 7, duplicate 0, marked 0, rejected 1")
        assert home.lines == ['"no time": no_time, event_timestamp is missing']
        assert await home.count("reading_analytics") == await home.count("sync_history") == 0
    assert set((await beside(mongodb.statuses)).values()) == {"ingested"}


async def test_verify_names_the_ids_that_differ(postgres: Postgres, mongodb: MongoDB, tmp_path: Path) -> None:
    await beside(mongodb.insert, [*articles(50)])
    async with library(postgres.url, mongodb, tmp_path) as home:
        await home.sync()
        assert await home.verify("2026-11-27..2026-11-29") == (True, [])
        gone, lost = str(object_id(NOON, 3)), str(object_id(NOON, 4))
        await home.rows("DELETE FROM reading_analytics WHERE mongo_id = $1", lost)

        def delete() -> None:
            with mongodb.collection() as collection:
                collection.delete_one({"_id": object_id(NOON, 3)})

        await beside(delete)
        good, lines = await home.verify("2026-11-28")
        assert not good
        assert lines == [
            f"atlas 2026-11-28 {gone} is a row here, and not at the source any more",
            f"atlas 2026-11-28 {lost} is processed at the source, and not here",
        ]


async def test_of_two_agents_one_works_and_the_other_says_so(
    postgres: Postgres, mongodb: MongoDB, tmp_path: Path
) -> None:
    await beside(mongodb.insert, [*articles(300)])
    async with library(postgres.url, mongodb, tmp_path, batch=10) as home:
        one, other = await asyncio.gather(home.sync(), replace(home, host="otherhost").sync())
        first, second = sorted((one, other), key=lambda ended: -ended.tally.seen)
        assert first.tally.inserted + second.tally.inserted == 300
        assert first.tally.duplicate == second.tally.duplicate == 0
        assert {first.status, second.status} == {"ok"}
        assert "Another agent is at work" in second.detail
        assert await home.count("reading_analytics") == 300


async def test_ids_that_hold_no_time_are_stored_marked_and_proven_too(
    postgres: Postgres, mongodb: MongoDB, tmp_path: Path
) -> None:
    one, two, three, four, five, six = articles(6)
    uuids = {**five, "_id": Binary.from_uuid(UUID(int=7))}, {**six, "_id": Binary(bytes(16), OLD_UUID_SUBTYPE)}
    await beside(mongodb.insert, [one, {**two, "_id": "two"}, {**three, "_id": 3}, {**four, "_id": "x" * 2000}, *uuids])
    async with library(postgres.url, mongodb, tmp_path) as home:
        ended = await home.sync()
        assert (ended.status, ended.tally.inserted, ended.tally.marked) == ("ok", 6, 6)
        keys = [row["mongo_id"] for row in await home.rows("SELECT mongo_id FROM reading_analytics ORDER BY id")]
        assert {str(one["_id"]), '"two"', '{"$numberInt": "3"}'} < set(keys)
        assert sum(key.startswith("sha256:") for key in keys) == 1
        assert await home.verify("other") == (True, [])
        await home.rows("DELETE FROM reading_analytics WHERE mongo_id = $1", '"two"')
        assert await home.verify("other") == (False, ['atlas other "two" is processed at the source, and not here'])
    assert set((await beside(mongodb.statuses)).values()) == {"processed"}
