"""What FerretDB and its stand-in both answer to what the reading sync asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, TypeAlias

import pytest
from bson import ObjectId
from bson.datetime_ms import DatetimeMS
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import AutoReconnect

from tests.neighbours import op_msg
from tests.neighbours.mongodb import MongoDB
from tests.neighbours.op_msg import StandIn
from tests.reading import NOON, articles, object_id

Articles: TypeAlias = AsyncCollection[dict[str, Any]]


@pytest.fixture
async def stand_in() -> AsyncIterator[StandIn]:
    async with op_msg.running() as server:
        yield server


@pytest.fixture(params=["ferretdb", "stand-in"])
async def collection(request: pytest.FixtureRequest, mongodb: MongoDB) -> AsyncIterator[Articles]:
    """The collection as the driver sees it, at each of the two."""
    if request.param == "ferretdb":
        async with AsyncMongoClient[dict[str, Any]](
            mongodb.url,
            password=mongodb.password,
            retryWrites=False,
            tz_aware=True,
            datetime_conversion="DATETIME_AUTO",
        ) as client:
            yield client[mongodb.database].articles
        return
    async with (
        op_msg.running() as server,
        AsyncMongoClient[dict[str, Any]](
            server.url, retryWrites=False, tz_aware=True, datetime_conversion="DATETIME_AUTO"
        ) as client,
    ):
        yield client.reading.articles


async def test_documents_come_back_whole_in_the_order_of_their_ids(collection: Articles) -> None:
    sent = [*articles(250)]
    await collection.insert_many(list(reversed(sent)))
    assert [one async for one in collection.find({"status": "ingested"}, batch_size=100).sort("_id", 1)] == sent


async def test_a_mark_is_conditional_and_counted(collection: Articles) -> None:
    sent = [*articles(3)]
    sent[1]["status"] = "held"
    await collection.insert_many(sent)
    ids = [one["_id"] for one in sent]
    wanted = {"_id": {"$in": ids}, "status": "ingested"}
    done = await collection.update_many(wanted, {"$set": {"status": "processed", "sync_run": "x"}})
    assert done.modified_count == 2
    assert await collection.count_documents({"status": "ingested"}) == 0
    assert await collection.count_documents({"status": "processed", "sync_run": "x"}) == 2
    assert await collection.count_documents({"status": "held"}) == 1


async def test_a_window_of_ids_is_found_and_its_statuses_alone(collection: Articles) -> None:
    await collection.insert_many([*articles(3), *articles(3, first=10, at=NOON + timedelta(days=1))])
    await collection.insert_one({"_id": "named", "status": "ingested"})
    first, last = (ObjectId.from_datetime(NOON + timedelta(hours=hours)) for hours in (-1, 23))
    window = {"_id": {"$type": "objectId", "$gte": first, "$lt": last}}
    assert [one async for one in collection.find(window, {"status": 1}).sort("_id", 1)] == [
        {"_id": object_id(NOON, number), "status": "ingested"} for number in range(3)
    ]
    after = {"_id": {"$type": "objectId", "$gt": object_id(NOON, 1), "$lt": last}}
    assert [one["_id"] async for one in collection.find(after)] == [object_id(NOON, 2)]
    assert [one["_id"] async for one in collection.find({"_id": {"$not": {"$type": "objectId"}}})] == ["named"]


async def test_ids_of_several_types_are_told_apart(collection: Articles) -> None:
    ids = [7, "7", object_id(NOON, 7)]
    await collection.insert_many([{"_id": one, "status": "ingested"} for one in ids])
    assert [one["_id"] async for one in collection.find({}).sort("_id", 1)] == ids
    done = await collection.update_many({"_id": {"$in": ["7"]}}, {"$set": {"status": "processed"}})
    assert done.modified_count == 1
    assert await collection.count_documents({"status": "ingested"}) == 2


async def test_a_date_beyond_python_is_held(collection: Articles) -> None:
    await collection.insert_one({"_id": 1, "at": DatetimeMS(2**50)})
    assert await collection.find_one({"_id": 1}) == {"_id": 1, "at": DatetimeMS(2**50)}


async def test_the_stand_in_cuts_a_connection_before_a_command_is_done(stand_in: StandIn) -> None:
    assert await _marked_after_a_cut(stand_in, "before") == {1: "ingested"}


async def test_the_stand_in_cuts_a_connection_after_a_command_is_done(stand_in: StandIn) -> None:
    assert await _marked_after_a_cut(stand_in, "after") == {1: "processed"}


async def _marked_after_a_cut(stand_in: StandIn, when: op_msg.When) -> dict[Any, str]:
    stand_in.insert([{"_id": 1, "status": "ingested"}])
    stand_in.cut("update", when)
    async with AsyncMongoClient[dict[str, Any]](stand_in.url, retryWrites=False) as client:
        with pytest.raises(AutoReconnect):
            await client.reading.articles.update_many({"_id": {"$in": [1]}}, {"$set": {"status": "processed"}})
        await client.admin.command("ping")
    return stand_in.statuses()
