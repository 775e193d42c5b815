"""Whatever goes away in the middle of a run, each document is stored once, and marked when it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.core.jobs import Run
from tests.neighbours import op_msg
from tests.neighbours.mongodb import MongoDB
from tests.neighbours.op_msg import When
from tests.neighbours.postgres import Postgres
from tests.reading import DRIVER_LEAVES_A_SOCKET, Library, articles, beside, library, write_password

pytestmark = DRIVER_LEAVES_A_SOCKET


class Midway:
    """A run in the middle of which something happens, once, beside the loop."""

    def __init__(self, home: Library, happen: Callable[[], Any]) -> None:
        self.run = home.new_run()
        self.run.on_progress = self._progress
        self._happen = happen
        self.happening: asyncio.Future[Any] | None = None

    def _progress(self, _: object) -> None:
        if self.happening is None:
            self.happening = asyncio.ensure_future(beside(self._happen))


async def midway(home: Library, happen: Callable[[], Any]) -> tuple[Any, Run]:
    """Run to the end, and have something happen after the first batch; return how the run ended."""
    course = Midway(home, happen)
    ended = await home.sync(run=course.run)
    assert course.happening is not None
    await course.happening
    return ended, course.run


async def nothing_is_missing(home: Library, statuses: dict[Any, str], count: int) -> None:
    assert await home.count("reading_analytics") == count
    assert list(statuses.values()) == ["processed"] * count


@pytest.mark.parametrize(
    ("command", "number"), [("find", 1), ("getMore", 2), ("update", 1), ("update", 2), ("aggregate", 1)]
)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_connection_that_is_cut_loses_and_repeats_nothing(
    postgres: Postgres, tmp_path: Path, command: str, number: int, when: When
) -> None:
    async with op_msg.running() as source, library(postgres.url, source, tmp_path, batch=50) as home:
        source.insert([*articles(300)])
        source.cut(command, when, number=number)
        ended = await home.sync()
        assert (ended.status, ended.tally.inserted) == ("ok", 300)
        await nothing_is_missing(home, source.statuses(), 300)


async def test_a_source_that_is_down_fails_the_run_and_says_so(
    postgres: Postgres, mongodb: MongoDB, tmp_path: Path
) -> None:
    await beside(mongodb.insert, [*articles(5)])
    async with library(postgres.url, mongodb, tmp_path) as home:
        home.patience = 0.0
        await beside(mongodb.kill)
        run = home.new_run()
        ended = await home.sync(run=run)
        assert (ended.status, ended.tally.seen) == ("failed", 0)
        assert ended.detail.startswith("The reading source atlas does not answer.")
        assert mongodb.password not in ended.detail
        [history] = await home.rows("SELECT status, error FROM sync_history")
        assert history == {"status": "failed", "error": ended.detail}
        await beside(mongodb.up)
        assert (await home.sync()).status == "ok"


async def test_a_source_that_is_killed_in_the_middle_is_waited_for(
    postgres: Postgres, mongodb: MongoDB, tmp_path: Path
) -> None:
    await beside(mongodb.insert, [*articles(600)])

    def crash() -> None:
        mongodb.kill()
        mongodb.up()

    async with library(postgres.url, mongodb, tmp_path, batch=100) as home:
        ended, _ = await midway(home, crash)
        assert (ended.status, ended.tally.inserted) == ("ok", 600)
        await nothing_is_missing(home, await beside(mongodb.statuses), 600)


async def test_postgresql_that_restarts_in_the_middle_is_waited_for(
    postgres: Postgres, mongodb: MongoDB, tmp_path: Path
) -> None:
    await beside(mongodb.insert, [*articles(600)])
    async with library(postgres.url, mongodb, tmp_path, batch=100) as home:
        ended, _ = await midway(home, postgres.restart)
        assert (ended.status, ended.tally.inserted) == ("ok", 600)
        await nothing_is_missing(home, await beside(mongodb.statuses), 600)
        [history] = await home.rows("SELECT status, inserted, backlog FROM sync_history")
        assert history == {"status": "ok", "inserted": 600, "backlog": 0}


async def test_credentials_that_are_rotated_in_the_middle_are_read_anew(
    postgres: Postgres, mongodb: MongoDB, tmp_path: Path
) -> None:
    await beside(mongodb.insert, [*articles(600)])

    def rotate() -> None:
        mongodb.change_password("quite another one")
        write_password(tmp_path / "mongodb-password", mongodb.password)

    async with library(postgres.url, mongodb, tmp_path, batch=100) as home:
        ended, _ = await midway(home, rotate)
        assert (ended.status, ended.tally.inserted) == ("ok", 600)
        await nothing_is_missing(home, await beside(mongodb.statuses), 600)


@pytest.mark.parametrize(("code", "name"), [(18, "AuthenticationFailed"), (13, "Unauthorized"), (8000, "AtlasError")])
async def test_a_source_that_lets_us_in_no_more_is_named_with_the_key_that_holds_the_password(
    postgres: Postgres, tmp_path: Path, code: int, name: str
) -> None:
    async with op_msg.running() as source, library(postgres.url, source, tmp_path) as home:
        home.patience = 0.0
        source.refuse("ping", code, name)
        ended = await home.sync()
        assert (ended.status, ended.repair) == ("failed", "reading.source.atlas.password")
        assert ended.detail.startswith("The reading source atlas does not let us in")
        assert ended.detail.endswith(f"({name}: refused)")


async def test_what_a_source_refuses_for_good_is_not_asked_again(postgres: Postgres, tmp_path: Path) -> None:
    async with op_msg.running() as source, library(postgres.url, source, tmp_path) as home:
        source.refuse("find", 59, "CommandNotFound")
        ended = await home.sync()
        assert (ended.status, ended.repair) == ("failed", "homelab-agent doctor reading")


async def test_postgresql_that_stays_away_leaves_the_rest_to_the_next_run(
    postgres: Postgres, mongodb: MongoDB, tmp_path: Path
) -> None:
    await beside(mongodb.insert, [*articles(600)])
    async with library(postgres.url, mongodb, tmp_path, batch=100) as home:
        home.patience = 0.0
        ended, _ = await midway(home, postgres.stop)
        assert ended.status == "partial"
        assert 100 <= ended.tally.inserted < 600
        await beside(postgres.start)
        await home.database.wait_until_up()
        ended = await home.sync()
        assert ended.status == "ok"
        await nothing_is_missing(home, await beside(mongodb.statuses), 600)
        statuses = [row["status"] for row in await home.rows("SELECT status FROM sync_history ORDER BY started_at")]
        assert statuses == ["interrupted", "ok"]
