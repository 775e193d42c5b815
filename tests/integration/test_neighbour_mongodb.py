"""The neighbour MongoDB is what it says, and breaks as it says."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pymongo
import pytest
from bson import ObjectId
from bson.datetime_ms import DatetimeMS
from pymongo.errors import AutoReconnect, OperationFailure

from tests.neighbours import mongodb as neighbour
from tests.neighbours.mongodb import MongoDB
from tests.waiting import until

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


def test_it_is_the_version_that_the_tests_are_built_for() -> None:
    locked = Path(neighbour.__file__).parent / "go/ferretdb/go.mod"
    assert f"github.com/FerretDB/FerretDB v{neighbour.VERSION}\n" in locked.read_text()


def test_documents_come_back_in_the_order_of_their_ids(mongodb: MongoDB) -> None:
    mongodb.insert([{"_id": f"{number:05}", "at": NOON} for number in reversed(range(2500))])
    with mongodb.collection() as articles:
        found = [one["_id"] for one in articles.find({}).sort("_id", 1).batch_size(500)]
        assert found == [f"{number:05}" for number in range(2500)]
        assert articles.find_one({"_id": "00000"}) == {"_id": "00000", "at": NOON}


def test_a_condition_keeps_another_status_from_being_overwritten(mongodb: MongoDB) -> None:
    ids = [ObjectId() for _ in range(3)]
    statuses = ("ingested", "ingested", "held")
    mongodb.insert([{"_id": one, "status": status} for one, status in zip(ids, statuses, strict=True)])
    with mongodb.collection() as articles:
        done = articles.update_many({"_id": {"$in": ids}, "status": "ingested"}, {"$set": {"status": "processed"}})
        assert done.modified_count == 2
    assert mongodb.statuses() == dict(zip(ids, ("processed", "processed", "held"), strict=True))


def test_ids_of_several_types_and_a_date_beyond_python_are_held(mongodb: MongoDB) -> None:
    late = DatetimeMS(2**50)
    mongodb.insert([{"_id": 7}, {"_id": "7"}, {"_id": ObjectId(), "at": late}])
    with mongodb.collection() as articles:
        assert articles.count_documents({}) == 3
        assert [one["at"] for one in articles.find({"at": late})] == [late]


def test_nobody_is_let_in_without_the_password(mongodb: MongoDB) -> None:
    _refused(mongodb, "wrong")


def test_a_new_password_shuts_out_the_old_one(mongodb: MongoDB) -> None:
    mongodb.insert([{"_id": 1}])
    old = mongodb.password
    mongodb.change_password("another one")
    assert mongodb.statuses() == {1: ""}
    _refused(mongodb, old)


def test_frozen_it_answers_nobody_and_thawed_it_goes_on(mongodb: MongoDB) -> None:
    mongodb.insert([{"_id": 1}])
    mongodb.freeze()
    with (
        pymongo.MongoClient[dict[str, object]](
            mongodb.url, serverSelectionTimeoutMS=300, connectTimeoutMS=300
        ) as client,
        pytest.raises(AutoReconnect),
    ):
        client.admin.command("ping")
    mongodb.thaw()
    assert mongodb.statuses() == {1: ""}


def test_killed_and_started_it_has_what_it_had(mongodb: MongoDB) -> None:
    mongodb.insert([{"_id": 1}])
    mongodb.kill()
    until(lambda: not mongodb.runs, "it has ended")
    mongodb.start()
    assert mongodb.statuses() == {1: ""}


def test_each_test_has_a_database_of_its_own(mongodb: MongoDB) -> None:
    assert mongodb.statuses() == {}


def _refused(mongodb: MongoDB, password: str) -> None:
    with (
        pymongo.MongoClient[dict[str, object]](mongodb.url, password=password) as client,
        pytest.raises(OperationFailure),
    ):
        client[mongodb.database].articles.find_one({})
