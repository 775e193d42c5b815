"""What was rejected is tried again or dropped: whatever comes in between, each document is told what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.reading import decided, lease
from tests.neighbours import op_msg
from tests.neighbours.mongodb import MongoDB
from tests.neighbours.op_msg import StandIn
from tests.neighbours.postgres import Postgres
from tests.reading import DRIVER_LEAVES_A_SOCKET, NOON, Library, articles, beside, library, object_id

pytestmark = DRIVER_LEAVES_A_SOCKET

FIRST = str(object_id(NOON, 0))


@pytest.fixture
async def source() -> AsyncIterator[StandIn]:
    async with op_msg.running() as server:
        yield server


def timeless(count: int) -> list[dict[str, Any]]:
    """Return documents that cannot be stored."""
    return [{**one, "event_timestamp": None} for one in articles(count)]


def mend(mongodb: MongoDB) -> None:
    with mongodb.collection() as collection:
        collection.update_many({}, {"$set": {"event_timestamp": NOON}})


async def state(home: Library) -> dict[str, str]:
    return {row["key"]: row["state"] for row in await home.rows("SELECT key, state FROM reading_rejected")}


async def told(home: Library, *keys: str) -> dict[str, tuple[bool, str]]:
    return {one.key: (one.done, one.detail) for one in await home.decided().retry("atlas", keys)}


async def test_what_is_gone_or_somebody_elses_at_the_source_is_told_and_stays_rejected(
    postgres: Postgres, mongodb: MongoDB, tmp_path: Path
) -> None:
    await beside(mongodb.insert, timeless(3))

    def change() -> None:
        with mongodb.collection() as collection:
            collection.delete_one({"_id": object_id(NOON, 1)})
            collection.update_one({"_id": object_id(NOON, 2)}, {"$set": {"status": "held"}})

    async with library(postgres.url, mongodb, tmp_path) as home:
        await home.sync()
        await beside(change)
        gone, held = str(object_id(NOON, 1)), str(object_id(NOON, 2))
        assert await told(home, FIRST, gone, held) == {
            FIRST: (True, "is tried again"),
            gone: (False, "it is not at the source any more"),
            held: (False, "at the source its status is 'held' now"),
        }
        assert await state(home) == {FIRST: "retry", gone: "rejected", held: "rejected"}
        assert all(one.done for one in await home.decided().drop("atlas", [FIRST, gone]))
        assert await state(home) == {FIRST: "dropped", gone: "dropped", held: "rejected"}
        assert (await home.sync()).tally.skipped == 1
    assert await beside(mongodb.statuses) == {object_id(NOON, 0): "rejected", object_id(NOON, 2): "held"}


async def test_a_document_is_tried_again_whose_id_is_too_long_for_a_key(
    postgres: Postgres, mongodb: MongoDB, tmp_path: Path
) -> None:
    unfit, refused = ({**one, "_id": name * 2000} for name, one in zip("ab", articles(2), strict=True))
    await beside(mongodb.insert, [{**unfit, "event_timestamp": None}, refused])
    async with library(postgres.url, mongodb, tmp_path) as home:
        await home.rows("ALTER TABLE reading_analytics ADD CONSTRAINT closed CHECK (false)")
        await home.sync()
        keys = [*await state(home)]
        assert [key.partition(":")[0] for key in keys] == ["sha256", "sha256"]
        await home.rows("ALTER TABLE reading_analytics DROP CONSTRAINT closed")
        await beside(mend, mongodb)
        assert await told(home, *keys) == dict.fromkeys(keys, (True, "is tried again"))
        ended = await home.sync()
        assert (ended.status, ended.tally.inserted, ended.tally.marked) == ("ok", 2, 2)
        assert await state(home) == {}
    assert set((await beside(mongodb.statuses)).values()) == {"processed"}


async def test_more_ids_than_fit_into_a_command_are_marked_and_given_again(
    postgres: Postgres, source: StandIn, tmp_path: Path
) -> None:
    source.insert([{**one, "_id": f"{number}{'x' * 64 * 1024}"} for number, one in enumerate(timeless(500))])
    held = source.hold("update")
    async with library(postgres.url, source, tmp_path) as home:
        course = asyncio.create_task(home.sync())
        await asyncio.wait_for(held.reached.wait(), 20)
        async with asyncio.timeout(60):
            while await home.count("reading_rejected") < 500:
                pass
        held.let_go.set()
        ended = await course
        assert (ended.tally.rejected, ended.tally.marked) == (500, 500)
        assert set(source.statuses().values()) == {"rejected"}
        keys = [*await state(home)]
        assert await told(home, *keys) == dict.fromkeys(keys, (True, "is tried again"))
    assert set(source.statuses().values()) == {"ingested"}


@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_was_cut_short_in_between_the_next_run_does(
    postgres: Postgres, source: StandIn, tmp_path: Path, when: op_msg.When
) -> None:
    source.insert(timeless(1))
    async with library(postgres.url, source, tmp_path) as home:
        await home.sync()
        source.cut("update", when)
        [outcome] = await home.decided().retry("atlas", [FIRST])
        assert (outcome.done, outcome.repair) == (False, "homelab-agent doctor reading")
        assert outcome.detail.startswith(decided.LEFT_TO_NEXT_RUN)
        assert await state(home) == {FIRST: "retry"}
        [good], [marked] = articles(1), source.statuses().values()
        source.insert([{**good, "status": marked}])
        ended = await home.sync()
        assert (ended.status, ended.tally.inserted, ended.tally.marked) == ("ok", 1, 1)
        assert await state(home) == {}
    assert source.statuses() == {object_id(NOON, 0): "processed"}


async def test_what_was_cut_short_in_between_is_done_when_it_is_decided_again(
    postgres: Postgres, source: StandIn, tmp_path: Path
) -> None:
    source.insert(timeless(1))
    async with library(postgres.url, source, tmp_path) as home:
        await home.sync()
        source.cut("update", "before")
        await home.decided().retry("atlas", [FIRST])
        assert source.statuses() == {object_id(NOON, 0): "rejected"}
        assert await told(home, FIRST) == {FIRST: (True, "is tried again")}
    assert source.statuses() == {object_id(NOON, 0): "ingested"}


async def test_a_run_tells_what_it_cannot_try_again(postgres: Postgres, source: StandIn, tmp_path: Path) -> None:
    source.insert(timeless(1))
    async with library(postgres.url, source, tmp_path) as home:
        await home.sync()
        source.cut("update", "before")
        await home.decided().retry("atlas", [FIRST])
        source.documents.clear()
        await home.sync()
        assert home.lines == [f"atlas {FIRST} cannot be tried again: it is not at the source any more"]
        assert await state(home) == {FIRST: "rejected"}


async def test_nothing_is_decided_beside_a_run_under_way(postgres: Postgres, source: StandIn, tmp_path: Path) -> None:
    source.insert(timeless(1))
    async with library(postgres.url, source, tmp_path) as home:
        await home.sync()
        async with home.database.acquire() as connection, lease.held(connection, "atlas", host="another"):
            for decide in (home.decided().retry, home.decided().drop):
                [outcome] = await decide("atlas", [FIRST])
                assert (outcome.done, outcome.repair) == (False, "homelab-agent reading status")
                assert outcome.detail == "Another agent is at work on the reading source atlas."
        assert await state(home) == {FIRST: "rejected"}
    assert source.statuses() == {object_id(NOON, 0): "rejected"}


async def test_who_decides_beside_a_run_of_this_host_is_told_of_it(
    postgres: Postgres, source: StandIn, tmp_path: Path
) -> None:
    source.insert(timeless(1))
    async with library(postgres.url, source, tmp_path) as home:
        await home.sync()
        source.insert([*articles(1, first=1)])
        held = source.hold("update")
        course = asyncio.create_task(home.sync())
        await asyncio.wait_for(held.reached.wait(), 20)
        for decide in (home.decided().retry, home.decided().drop):
            [outcome] = await decide("atlas", [FIRST])
            assert (outcome.done, outcome.repair) == (False, "homelab-agent jobs list")
            assert outcome.detail.startswith("Either this host is at work on the reading source atlas, or")
        held.let_go.set()
        assert (await course).status == "ok"
        assert await state(home) == {FIRST: "rejected"}


async def test_a_document_that_is_left_as_it_is_is_tried_again_too(
    postgres: Postgres, source: StandIn, tmp_path: Path
) -> None:
    source.insert(timeless(1))
    async with library(postgres.url, source, tmp_path, on_reject="leave") as home:
        await home.sync()
        assert await told(home, FIRST) == {FIRST: (True, "is tried again")}
        assert (await home.sync()).tally.rejected == 1
        assert await home.rows("SELECT state, attempts FROM reading_rejected") == [{"state": "rejected", "attempts": 2}]


async def test_a_source_that_is_not_configured_any_more_is_told(
    postgres: Postgres, source: StandIn, tmp_path: Path
) -> None:
    async with library(postgres.url, source, tmp_path) as home:
        [outcome] = await home.decided().retry("other", ["x"])
        assert (outcome.done, outcome.detail) == (False, decided.NOT_CONFIGURED)
