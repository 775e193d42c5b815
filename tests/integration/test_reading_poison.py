"""Documents that cannot be stored stop no other: each is kept, with what is wrong with it, and can be tried again."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Decimal128
from bson.datetime_ms import DatetimeMS

from tests.neighbours import op_msg
from tests.neighbours.mongodb import MongoDB
from tests.neighbours.op_msg import StandIn
from tests.neighbours.postgres import Postgres
from tests.reading import DRIVER_LEAVES_A_SOCKET, NOON, Library, articles, beside, library, object_id

pytestmark = DRIVER_LEAVES_A_SOCKET

TOO_LARGE = "x" * (1024 * 1024 + 1)
POISON: tuple[tuple[str, dict[str, Any]], ...] = (
    ("no_time", {"event_timestamp": None}),
    ("date", {"event_timestamp": DatetimeMS(2**60)}),
    ("date", {"event_timestamp": "some day"}),
    ("mixed", {"event_timestamp": {"at": NOON}}),
    ("mixed", {"source": ["pocket"]}),
    ("not_finite", {"payload": {"score": math.nan}}),
    ("not_finite", {"payload": {"scores": [1, math.inf]}}),
    ("not_finite", {"payload": {"price": Decimal128("NaN")}}),
    ("nul", {"payload": {"title": "a\0b"}}),
    ("nul", {"meta": {"device": "\0"}}),
    ("date", {"payload": {"saved_at": DatetimeMS(-(2**60))}}),
    ("undecodable", {"payload": {"title": "no utf-8"}}),
)
GOOD: tuple[dict[str, Any], ...] = (
    {"event_timestamp": "2026-11-28T12:00:00Z"},
    {"event_timestamp": 1795867200},
    {"event_type": 7},
    {"payload": {"a.b": 1, "$set": 2, "": 3}},
    {"payload": ["no", "object"]},
    {"payload": None},
    {"payload": {"title": "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")}},
)


@pytest.fixture
async def source() -> AsyncIterator[StandIn]:
    async with op_msg.running() as server:
        yield server


def spoiled(document: dict[str, Any], how: dict[str, Any]) -> bytes:
    """Return a document with something in it that nobody can store."""
    raw = bson.encode({**document, **how})
    return raw.replace(b"no utf-8", b"no \xff\xfef-8")


def mixture(count: int, *, poison: int) -> Iterator[dict[str, Any] | bytes]:
    """Give documents of which so many, here and there, cannot be stored."""
    every = count // poison
    for number, document in enumerate(articles(count)):
        turn, place = divmod(number, every)
        if place == 7 and turn < poison:
            yield spoiled(document, POISON[turn % len(POISON)][1])
        else:
            yield {**document, **GOOD[turn % len(GOOD)]} if place == 0 else document


async def test_each_kind_of_poison_is_rejected_for_what_it_is(
    postgres: Postgres, source: StandIn, tmp_path: Path
) -> None:
    kinds = [*POISON, ("too_large", {"payload": {"text": TOO_LARGE}})]
    source.insert([spoiled(one, how) for one, (_, how) in zip(articles(len(kinds)), kinds, strict=True)])
    async with library(postgres.url, source, tmp_path) as home:
        ended = await home.sync()
        assert (ended.status, ended.tally.rejected, ended.tally.marked) == ("partial", len(kinds), len(kinds))
        assert ended.repair == "homelab-agent reading rejected list"
        rows = await home.rows("SELECT * FROM reading_rejected ORDER BY key")
        assert [row["cause"] for row in rows] == [cause for cause, _ in kinds]
        assert await home.count("reading_analytics") == 0
    assert set(source.statuses().values()) == {"rejected"}


@pytest.mark.parametrize("on_reject", ["mark", "leave"])
async def test_of_ten_thousand_documents_with_three_hundred_bad_ones_none_is_lost(
    postgres: Postgres, source: StandIn, tmp_path: Path, on_reject: str
) -> None:
    source.insert([*mixture(10_000, poison=300)])
    async with library(postgres.url, source, tmp_path, on_reject=on_reject) as home:
        ended = await home.sync()
        assert (ended.status, ended.tally.inserted, ended.tally.rejected) == ("partial", 9700, 300)
        assert ended.detail == "9700 rows of 1 day proven"
        left = "rejected" if on_reject == "mark" else "ingested"
        assert Counter(source.statuses().values()) == {"processed": 9700, left: 300}
        again = await home.sync()
        skipped = 0 if on_reject == "mark" else 300
        assert (again.status, again.tally.seen, again.tally.skipped) == ("ok", skipped, skipped)
        assert await home.count("reading_analytics") == 9700
        assert await home.count("reading_rejected") == 300


async def test_a_document_as_large_as_mongodb_takes_is_rejected_and_kept_whole(
    postgres: Postgres, mongodb: MongoDB, tmp_path: Path
) -> None:
    small, large = articles(2)
    large["payload"] = {"text": "x" * (16 * 1024 * 1024 - 1000)}
    await beside(mongodb.insert, [large, small])
    async with library(postgres.url, mongodb, tmp_path) as home:
        ended = await home.sync()
        assert (ended.tally.inserted, ended.tally.rejected) == (1, 1)
        [row] = await home.rows("SELECT cause, length(raw) AS length FROM reading_rejected")
        assert row["cause"] == "too_large"
        assert row["length"] > 16 * 1024 * 1024 - 1000
    assert await beside(mongodb.statuses) == {small["_id"]: "processed", large["_id"]: "rejected"}


async def test_what_only_postgresql_refuses_is_found_among_the_others(
    postgres: Postgres, source: StandIn, tmp_path: Path
) -> None:
    source.insert([*articles(700)])
    async with library(postgres.url, source, tmp_path) as home:
        await home.rows(
            "ALTER TABLE reading_analytics ADD CONSTRAINT no_sevens CHECK (payload ->> 'url' NOT LIKE '%77')"
        )
        ended = await home.sync()
        assert (ended.status, ended.tally.inserted, ended.tally.rejected) == ("partial", 693, 7)
        rows = await home.rows("SELECT cause, detail, raw FROM reading_rejected")
        assert {row["cause"] for row in rows} == {"refused"}
        assert all("no_sevens" in row["detail"] for row in rows)
        assert {json.loads(row["raw"])["source"] for row in rows} == {"pocket"}


async def test_another_document_with_the_same_id_replaces_nothing(
    postgres: Postgres, source: StandIn, tmp_path: Path
) -> None:
    source.insert([*articles(3)])
    async with library(postgres.url, source, tmp_path) as home:
        await home.sync()
        [changed] = articles(1)
        source.insert([{**changed, "payload": {"title": "another"}}])
        ended = await home.sync()
        assert (ended.status, ended.tally.rejected, ended.tally.duplicate) == ("partial", 1, 0)
        [row] = await home.rows("SELECT key, cause FROM reading_rejected")
        assert row == {"key": str(changed["_id"]), "cause": "changed"}
        [stored] = await home.rows("SELECT payload ->> 'title' AS title FROM reading_analytics ORDER BY id LIMIT 1")
        assert stored == {"title": "Article 0"}


async def test_what_was_mended_at_the_source_is_taken_when_it_is_tried_again(
    postgres: Postgres, source: StandIn, tmp_path: Path
) -> None:
    [good] = articles(1)
    source.insert([spoiled(good, {"event_timestamp": None})])
    async with library(postgres.url, source, tmp_path) as home:
        await home.sync()
        await _retry(home)
        ended = await home.sync()
        assert (ended.status, ended.tally.rejected) == ("partial", 1)
        [row] = await home.rows("SELECT attempts, state FROM reading_rejected")
        assert row == {"attempts": 2, "state": "rejected"}
        source.insert([{**good, "status": "rejected"}])
        await _retry(home)
        ended = await home.sync()
        assert (ended.status, str(ended.tally)) == ("ok", "inserted 1, duplicate 0, marked 1, rejected 0")
        assert await home.count("reading_rejected") == 0
    assert source.statuses() == {object_id(NOON, 0): "processed"}


async def test_an_id_that_postgresql_takes_in_no_text_is_stored_marked_and_proven(
    postgres: Postgres, source: StandIn, tmp_path: Path
) -> None:
    ids = ["a\0b", "a\\u0000b", "\U0001f600" * 900, "\0" * 2000]
    source.insert([{**one, "_id": own} for one, own in zip(articles(4), ids, strict=True)])
    async with library(postgres.url, source, tmp_path) as home:
        ended = await home.sync()
        assert (ended.status, ended.tally.inserted, ended.detail) == ("ok", 4, "4 rows of 1 day proven")
    assert source.statuses() == dict.fromkeys(ids, "processed")


async def test_an_id_that_is_a_time_beyond_the_calendar_is_stored_marked_and_proven(
    postgres: Postgres, source: StandIn, tmp_path: Path
) -> None:
    source.insert([{**one, "_id": DatetimeMS(2**60)} for one in articles(1)])
    async with library(postgres.url, source, tmp_path) as home:
        ended = await home.sync()
        assert (ended.status, ended.tally.marked, ended.detail) == ("ok", 1, "1 rows of 1 day proven")


async def test_new_keys_are_written_down_once(postgres: Postgres, source: StandIn, tmp_path: Path) -> None:
    source.insert([*articles(2)])
    async with library(postgres.url, source, tmp_path) as home:
        await home.sync()
        source.insert([{**one, "rating": 5} for one in articles(2, first=10)])
        ended = await home.sync()
        keys = [row["key"] for row in await home.rows("SELECT key FROM reading_key ORDER BY first_seen, key")]
        assert keys[-1] == "rating"
        assert len(keys) == len(set(keys)) == 9
        assert ended.status == "ok"


async def _retry(home: Library) -> None:
    """Do what `homelab-agent reading rejected retry --all` asks for."""
    keys = [row["key"] for row in await home.rows("SELECT key FROM reading_rejected")]
    assert all(outcome.done for outcome in await home.decided().retry(home.settings.name, keys))
