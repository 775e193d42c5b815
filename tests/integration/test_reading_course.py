"""What a run leaves that is cut short, and what the next one makes of it: counts, days to be proven, how it ended."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.jobs import RunRecord
from homelab_agent.core.jobs.run import RunState
from homelab_agent.reading.document import Window
from homelab_agent.reading.history import History
from homelab_agent.reading.order import Order
from tests.agent import Agent
from tests.neighbours import op_msg
from tests.neighbours.mongodb import MongoDB
from tests.neighbours.op_msg import StandIn
from tests.neighbours.ports import free_port
from tests.neighbours.postgres import Postgres
from tests.reading import DRIVER_LEAVES_A_SOCKET, NOON, Library, articles, beside, library, object_id, unencrypted
from tests.relay import Relay
from tests.waiting import until

pytestmark = DRIVER_LEAVES_A_SOCKET

DAY = Window(datetime(2026, 11, 28, tzinfo=UTC), datetime(2026, 11, 29, tzinfo=UTC))
COUNTS = "SELECT status, inserted, duplicate, marked FROM sync_history ORDER BY started_at"


async def cut_short(home: Library, source: StandIn) -> str:
    """Run until the second batch is committed and not marked, and cancel that hard; return the run's id."""
    held, run = source.hold("update", number=2), home.new_run()
    course = asyncio.create_task(home.sync(run=run))
    await asyncio.wait_for(held.reached.wait(), 20)
    course.cancel()
    held.let_go.set()
    await asyncio.gather(course, return_exceptions=True)
    await _until(home, "pg_locks WHERE locktype = 'advisory'", 0)  # PostgreSQL hears later that the connection ended
    return run.id


async def test_a_day_that_a_run_could_not_prove_is_proven_by_the_next(postgres: Postgres, tmp_path: Path) -> None:
    async with op_msg.running() as source, library(postgres.url, source, tmp_path, batch=10) as home:
        source.insert([*articles(10), *articles(20, first=100, at=NOON + timedelta(days=1))])
        await cut_short(home, source)
        [first] = [row["day"] for row in await home.rows("SELECT DISTINCT day FROM sync_unproven ORDER BY day LIMIT 1")]
        assert first == "2026-11-28"
        assert await home.count("sync_proof") == 0
        await home.sync()
        proven = [row["day"] for row in await home.rows("SELECT day FROM sync_proof ORDER BY day")]
        assert proven == ["2026-11-28", "2026-11-29"]
        assert await home.count("sync_unproven") == 0


async def test_a_proof_and_the_end_of_its_backfill_are_kept_together_or_not_at_all(
    postgres: Postgres, tmp_path: Path
) -> None:
    async with op_msg.running() as source, library(postgres.url, source, tmp_path) as home:
        source.insert([*articles(30)])
        await home.rows("ALTER TABLE sync_history ADD CONSTRAINT no_end CHECK (status = 'running') NOT VALID")
        home.patience = 0.0
        assert (await home.sync(Order(DAY))).tally.inserted == 30
        assert await home.count("sync_proof") == 0
        assert await home.count("sync_cursor") == await home.count("sync_unproven") == 1
        await home.rows("ALTER TABLE sync_history DROP CONSTRAINT no_end")
        ended = await home.sync(Order(DAY))
        assert (ended.status, ended.tally.seen, ended.detail) == ("ok", 0, "30 rows of 1 day proven")
        assert await home.count("sync_cursor") == await home.count("sync_unproven") == 0


async def test_a_commit_whose_answer_is_lost_is_counted_once(postgres: Postgres, tmp_path: Path) -> None:
    relay = Relay(lambda: asyncio.open_unix_connection(postgres.socket))
    async with op_msg.running() as source, relay.running():
        source.insert([*articles(300)])
        async with library(unencrypted(postgres.url_at(relay.address)), source, tmp_path, batch=50) as home:
            relay.lose_answer_to(b"COMMIT;")
            ended = await home.sync()
            assert relay.lost == 1
            assert (ended.status, str(ended.tally)) == ("ok", "inserted 300, duplicate 0, marked 300, rejected 0")
            assert await home.rows(COUNTS) == [{"status": "ok", "inserted": 300, "duplicate": 0, "marked": 300}]


@pytest.mark.parametrize("number", [2, 3])
async def test_a_mark_that_is_lost_has_no_document_counted_twice(
    postgres: Postgres, tmp_path: Path, number: int
) -> None:
    """All is stored during the first mark; so the second is of all other rows, the third of the rejected."""
    async with op_msg.running() as source, library(postgres.url, source, tmp_path, batch=50) as home:
        poison = [{**one, "event_timestamp": None} for one in articles(10, first=1000)]
        source.insert([*articles(300), *poison])
        held = source.hold("update")
        source.cut("update", "before", number=number)
        course = asyncio.create_task(home.sync())
        await asyncio.wait_for(held.reached.wait(), 20)
        await _until(home, "reading_rejected", 10)
        held.let_go.set()
        ended = await course
        assert str(ended.tally) == "inserted 300, duplicate 0, marked 310, rejected 10"
        assert [row["marked"] for row in await home.rows(COUNTS)] == [310]


@pytest.mark.parametrize("number", [1, 2])
async def test_what_a_backfill_has_stored_and_not_marked_it_marks_when_it_goes_on(
    postgres: Postgres, tmp_path: Path, number: int
) -> None:
    async with op_msg.running() as source, library(postgres.url, source, tmp_path, batch=50) as home:
        source.insert([*articles(300)])
        source.cut("update", "before", number=number)
        ended = await home.sync(Order(DAY))
        assert (ended.status, ended.detail) == ("ok", "300 rows of 1 day proven")
        assert str(ended.tally) == "inserted 300, duplicate 0, marked 300, rejected 0"


async def test_a_backfill_that_goes_on_takes_nothing_twice_but_what_it_has_to_mark(
    postgres: Postgres, tmp_path: Path
) -> None:
    async with op_msg.running() as source, library(postgres.url, source, tmp_path, batch=10) as home:
        source.insert([*articles(30)])
        source.refuse("update", 59, "CommandNotFound")
        assert (await home.sync(Order(DAY))).status == "partial"
        assert set(source.statuses().values()) == {"ingested"}
        source.allow("update")
        source.insert([{**one, "status": "processed"} for one in articles(5)])
        stored = await home.count("reading_analytics")
        ended = await home.sync(Order(DAY))
        assert (ended.status, ended.tally.duplicate + ended.tally.inserted, ended.tally.marked) == ("ok", 25, 25)
        assert ended.tally.duplicate == stored - 5


async def test_an_edited_document_in_a_backfill_keeps_its_row_and_the_proof_of_its_day(
    postgres: Postgres, tmp_path: Path
) -> None:
    async with op_msg.running() as source, library(postgres.url, source, tmp_path) as home:
        source.insert([*articles(5)])
        await home.sync()
        edited, spoiled = list(articles(2))
        source.insert([{**edited, "status": "processed", "payload": {"title": "another"}}])
        source.insert([{**spoiled, "status": "processed", "event_timestamp": None}])
        tried = await home.sync(Order(DAY, dry_run=True))
        ended = await home.sync(Order(DAY))
        said = "inserted 0, duplicate 3, marked 0, rejected 0, changed 2"
        assert str(tried.tally) == str(ended.tally) == said
        assert ended.status == "ok"
        assert ended.detail == "5 rows of 1 day proven; 2 changed at the source since they were stored, their rows stay"
        assert home.lines[-2:] == [
            f"atlas {object_id(NOON, number)} was changed since it was stored; its row stays" for number in (0, 1)
        ]
        assert await home.count("reading_rejected") == 0
        assert await home.rows("SELECT payload ->> 'title' AS title FROM reading_analytics ORDER BY id LIMIT 1") == [
            {"title": "Article 0"}
        ]
        assert await home.verify("2026-11-28") == (True, [])
        assert set(source.statuses().values()) == {"processed"}


async def test_a_backfill_says_how_many_documents_no_window_holds(
    postgres: Postgres, mongodb: MongoDB, tmp_path: Path
) -> None:
    one, two, three = articles(3)
    await beside(mongodb.insert, [one, {**two, "_id": "two"}, {**three, "_id": 3}])
    async with library(postgres.url, mongodb, tmp_path) as home:
        await home.sync()
        for order in (Order(DAY, dry_run=True), Order(DAY)):
            ended = await home.sync(order)
            assert (ended.status, ended.tally.seen) == ("ok", 1)
            beyond = "not in any window: 2 documents whose ids hold no time (reading verify --window other)"
            assert ended.detail.endswith(f"; {beyond}")


async def test_the_row_of_a_run_that_was_cut_short_ends_as_its_job_did(postgres: Postgres, tmp_path: Path) -> None:
    async with op_msg.running() as source, library(postgres.url, source, tmp_path, batch=10) as home:
        source.insert([*articles(200)])
        late = await cut_short(home, source)
        home.recorded[late] = _record(late, "timed_out", "not done within 60 s")
        cancelled = await cut_short(home, source)
        home.recorded[cancelled] = _record(cancelled, "cancelled", "was asked to stop")
        assert await home.count("sync_history WHERE status = 'running'") == 1  # the second run has settled the first
        history = History(home.database, SystemClock(), home.recall, host=home.host)
        settling = asyncio.create_task(history.run())
        await _until(home, "sync_history WHERE status = 'running'", 0)
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)
        rows = await home.rows("SELECT status, error, ended_at FROM sync_history ORDER BY started_at")
        assert rows == [
            {"status": "partial", "error": "timed out: not done within 60 s", "ended_at": NOON},
            {"status": "partial", "error": "cancelled: was asked to stop", "ended_at": NOON},
        ]
        killed = await cut_short(home, source)
        assert killed not in home.recorded
        assert (await home.sync()).status == "ok"
        rows = await home.rows("SELECT status, error FROM sync_history ORDER BY started_at OFFSET 2")
        assert rows == [
            {"status": "interrupted", "error": "its agent ended while it ran"},
            {"status": "ok", "error": ""},
        ]


async def test_an_agent_killed_between_a_commit_and_its_mark_is_followed_by_one_that_marks(
    agent: Agent, postgres: Postgres, tmp_path: Path
) -> None:
    async with op_msg.running() as source:
        source.insert([*articles(300)])
        held = source.hold("update", number=2)
        section = f'[reading]\nbatch = 50\nspread = 0.0\n[[reading.source]]\nname = "atlas"\nurl = "{source.url}"\n'
        await beside(lambda: agent.write(section, database=postgres.url))
        await beside(agent.start_with_database)
        await beside(agent.run, "reading", "sync", "--detach")
        await asyncio.wait_for(held.reached.wait(), 30)
        stored = "SELECT count(*) FROM homelab.reading_analytics"
        await beside(until, lambda: postgres.psql(stored) == "300", "all is stored while the second mark is under way")
        await beside(agent.kill)
        held.is_lost = True
        held.let_go.set()
        assert [*source.statuses().values()].count("processed") == 50
        seen = await beside(postgres.psql, "SELECT max(id) FROM homelab.reading_analytics")
        await beside(agent.start_with_database)
        done = await beside(agent.run, "reading", "sync")
        assert done.returncode == 0, done.stderr
        told = "atlas: ok, inserted 0, duplicate 250, marked 250, rejected 0; 300 rows of 1 day proven"
        assert told in done.stdout
        assert set(source.statuses().values()) == {"processed"}
        assert await beside(postgres.psql, f"{stored} WHERE id <= {seen}") == "300"
        assert await beside(postgres.psql, stored) == "300"
        statuses = await beside(postgres.psql, "SELECT status FROM homelab.sync_history ORDER BY started_at")
        assert statuses.split() == ["interrupted", "ok"]


async def test_sources_are_synced_side_by_side_and_none_waits_for_or_fails_with_another(
    agent: Agent, postgres: Postgres
) -> None:
    async with op_msg.running() as slow, op_msg.running() as quick:
        slow.insert([*articles(10)])
        quick.insert([*articles(20, first=100)])
        held = slow.hold("find")
        urls = {
            "slow": slow.url,
            "gone": f"mongodb://127.0.0.1:{free_port()}/?directConnection=true",
            "quick": quick.url,
        }
        sources = [f'[[reading.source]]\nname = "{name}"\nurl = "{url}"\n' for name, url in urls.items()]
        section = "\n".join(["[reading]\npatience = 0.0\nspread = 0.0", *sources])
        await beside(lambda: agent.write(section, database=postgres.url))
        await beside(agent.start_with_database)
        run = (await beside(agent.run, "reading", "sync", "--detach")).stdout.strip()
        await asyncio.wait_for(held.reached.wait(), 30)
        query = "SELECT status FROM homelab.sync_history ORDER BY origin"
        others_ended = ["failed", "ok", "running"]  # gone, quick, slow
        await beside(until, lambda: postgres.psql(query).split() == others_ended, "the others have ended")
        assert set(quick.statuses().values()) == {"processed"}
        held.let_go.set()
        await beside(until, lambda: agent.json(f"/api/runs/{run}")["ended_at"], "the run has ended")
        told = await beside(agent.json, f"/api/runs/{run}")
        assert told["state"] == "failed"
        said = told["detail"].split(" | ")
        expected = ("slow: ok, inserted 10", "gone: failed", "quick: ok, inserted 20")
        assert [one.startswith(begin) for one, begin in zip(said, expected, strict=True)] == [True, True, True], said


def _record(run: str, state: RunState, detail: str) -> RunRecord:
    return RunRecord(run, "reading.sync", "command", state, NOON, detail, started_at=NOON, ended_at=NOON)


async def _until(home: Library, table: str, count: int) -> None:
    """Wait until a table has so many rows."""
    async with asyncio.timeout(20):
        while await home.count(table) != count:
            pass
