"""Several sources have one space of ids, and a source that is renamed keeps what it gave."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from homelab_agent.core.jobs import Outcome
from homelab_agent.reading import lease, rename
from homelab_agent.reading.document import Batch, Document, Rejected
from homelab_agent.reading.lease import TakenElsewhere
from homelab_agent.reading.order import Order
from homelab_agent.reading.rename import NameTaken, NothingToRename, Rename
from homelab_agent.reading.store import Store
from homelab_agent.reading.tally import Tally
from homelab_agent.reading.verify import Verify
from tests.agent import Agent
from tests.neighbours import op_msg
from tests.neighbours.mongodb import MongoDB
from tests.neighbours.postgres import Postgres
from tests.reading import DRIVER_LEAVES_A_SOCKET, NOON, Library, articles, library, object_id, section, write_password

pytestmark = DRIVER_LEAVES_A_SOCKET


async def test_an_id_that_another_source_has_is_rejected_as_such_and_the_proofs_hold(
    postgres: Postgres, tmp_path: Path
) -> None:
    async with op_msg.running() as one, op_msg.running() as other:
        one.insert([*articles(3)])
        other.insert([*articles(5, first=2)])
        async with library(postgres.url, one, tmp_path) as home:
            assert (await home.sync()).status == "ok"
            async with library(postgres.url, other, tmp_path, name="second") as second:
                dry = await second.sync(Order(dry_run=True))
                ended = await second.sync()
                assert (ended.status, ended.tally.inserted, ended.tally.rejected) == ("partial", 4, 1)
                assert (dry.tally.inserted, dry.tally.rejected) == (4, 1)
                assert ended.detail == "4 rows of 1 day proven"
                [row] = await second.rows("SELECT origin, key, cause, detail FROM reading_rejected")
                assert row == {
                    "origin": "second",
                    "key": str(object_id(NOON, 2)),
                    "cause": "elsewhere",
                    "detail": "a row with this id came from the source atlas",
                }
                assert await second.verify("2026-11-28") == (True, [])
            assert await home.verify("2026-11-28") == (True, [])
        assert set(one.statuses().values()) == {"processed"}
        assert other.statuses()[object_id(NOON, 2)] == "rejected"


async def test_a_source_that_is_away_is_told_and_the_others_are_verified(postgres: Postgres, tmp_path: Path) -> None:
    async with (
        op_msg.running() as away,
        op_msg.running() as there,
        library(postgres.url, away, tmp_path) as first,
        library(postgres.url, there, tmp_path, name="second") as second,
    ):
        there.insert([*articles(3)])
        await second.sync()
        there.documents.clear()
        away.refuse("ping", 13, "Unauthorized")
        verify = Verify({"atlas": first.source, "second": second.source}, first.database, host=first.host)
        outcome = await verify.run(first.new_run())
        assert (outcome.ok, outcome.repair) == (False, "reading.source.atlas.password")
        assert outcome.detail.startswith("atlas: The reading source atlas does not let us in")
        assert outcome.detail.endswith("; second: differs: 2026-11-28")
        assert len(first.lines) == 3


async def test_a_dry_run_knows_what_was_rejected_and_what_has_changed(postgres: Postgres, tmp_path: Path) -> None:
    async with op_msg.running() as source, library(postgres.url, source, tmp_path, on_reject="leave") as home:
        source.insert([*articles(3), {"_id": "no time", "status": "ingested"}])
        await home.sync()
        changed, same, new = articles(3)
        source.insert([{**changed, "source": "web"}, same, {**new, "_id": object_id(NOON, 9)}])
        home.lines.clear()
        dry = await home.sync(Order(dry_run=True))
        assert home.lines == [f"{changed['_id']}: changed, another document with this id is stored already"]
        ended = await home.sync()
        assert str(dry.tally) == "inserted 1, duplicate 1, marked 0, rejected 1, rejected before 1"
        assert str(ended.tally) == "inserted 1, duplicate 1, marked 2, rejected 1, rejected before 1"


@asynccontextmanager
async def polled(postgres: Postgres, directory: Path) -> AsyncIterator[Library]:
    """Give a database in which the source `old` has stored an entry and rejected another."""
    async with op_msg.running() as source, library(postgres.url, source, directory, name="new") as home:
        await store(home, "old", "old:7")
        yield home


async def store(home: Library, origin: str, key: str) -> Tally:
    """Have a source write an entry, one that cannot be stored, and how far it is."""
    good = Document(key, NOON, "A journal", "read", "{}", "{}", frozenset({"title"}), first_stays=True)
    bad = Rejected(f"{key}0", "no_time", "changed_at is missing", "{}")
    async with home.database.acquire() as connection:
        writing = Store(connection, origin=origin, run=home.new_run().id, order=Order(), is_kept=False)
        await writing.begin("testhost")
        return (await writing.write(Batch([good, bad], {"changed_after": 5}), Tally())).tally


async def renamed(home: Library, old: str = "old", new: str = "new") -> Outcome:
    return await Rename(home.database, host=home.host).run(home.new_run(frozenset({f"old={old}", f"new={new}"})))


async def test_what_a_renamed_source_gave_goes_by_its_new_name_and_does_not_come_again(
    postgres: Postgres, tmp_path: Path
) -> None:
    async with polled(postgres, tmp_path) as home:
        assert await renamed(home) == Outcome(ok=True, detail="2 documents of old are now of new")
        [row] = await home.rows("SELECT origin, mongo_id FROM reading_analytics")
        assert row == {"origin": "new", "mongo_id": "new:7"}
        assert await home.rows("SELECT cursor ->> 'changed_after' AS at FROM sync_cursor WHERE origin = 'new'") == [
            {"at": "5"}
        ]
        assert await store(home, "new", "new:7") == Tally(duplicate=1, skipped=1)
        for table in (*rename.KEYED, *rename.MOVED, *rename.REPLACED):
            assert await home.rows(f"SELECT FROM {table} WHERE origin = 'old'") == []


async def test_each_table_that_knows_sources_is_renamed(postgres: Postgres, tmp_path: Path) -> None:
    async with polled(postgres, tmp_path) as home:
        rows = await home.rows(
            "SELECT table_name FROM information_schema.columns JOIN information_schema.tables"
            " USING (table_schema, table_name) WHERE column_name = 'origin' AND table_type = 'BASE TABLE'"
            " AND table_schema = current_schema() AND table_name ~ '^(reading|sync)_'"
        )
        assert {row["table_name"] for row in rows} == {*rename.KEYED, *rename.MOVED, *rename.REPLACED}


async def test_a_source_is_renamed_neither_twice_nor_over_another_nor_while_it_is_at_work(
    postgres: Postgres, tmp_path: Path
) -> None:
    async with polled(postgres, tmp_path) as home:
        for name in ("old", "new"):
            async with home.database.acquire() as connection, lease.held(connection, name, host="otherhost"):
                with pytest.raises(TakenElsewhere):
                    await renamed(home)
        await renamed(home)
        with pytest.raises(NameTaken):
            await renamed(home)
        with pytest.raises(NothingToRename):
            await renamed(home, new="third")


async def test_a_source_is_renamed_that_had_runs_together_with_the_one_it_becomes(
    postgres: Postgres, tmp_path: Path
) -> None:
    async with (
        op_msg.running() as source,
        op_msg.running() as empty,
        library(postgres.url, source, tmp_path, name="old") as old,
        library(postgres.url, empty, tmp_path, name="new") as new,
    ):
        source.insert([*articles(3)])
        together, alone = old.new_run(), new.new_run()
        for home, run in ((old, together), (new, together), (new, alone)):
            await home.sync(run=run)
        assert (await renamed(old)).ok
        rows = await old.rows("SELECT run::text, origin, inserted FROM sync_history ORDER BY started_at")
        assert rows == [
            {"run": together.id, "origin": "new", "inserted": 3},
            {"run": alone.id, "origin": "new", "inserted": 0},
        ]


def test_a_source_is_renamed_by_hand(agent: Agent, postgres: Postgres, mongodb: MongoDB, tmp_path: Path) -> None:
    mongodb.insert([*articles(10)])
    agent.write(section(mongodb, write_password(tmp_path / "password", mongodb.password)), database=postgres.url)
    agent.start_with_database()
    assert agent.run("reading", "sync").returncode == 0
    done = agent.run("reading", "rename", "atlas", "ocean")
    assert (done.returncode, "There is no reading source ocean in the configuration" in done.stderr) == (1, True)
    assert "there are atlas" in done.stderr
    agent.stop()
    agent.config.write_text(agent.config.read_text().replace('"atlas"', '"ocean"'))
    agent.start_with_database()
    done = agent.run("reading", "rename", "atlas", "ocean")
    assert done.returncode == 0, done.stderr
    assert "10 documents of atlas are now of ocean" in done.stdout
    assert agent.run("reading", "verify", "--source", "ocean").returncode == 0
    assert agent.run("reading", "rename", "atlas", "ocean").returncode == 1
    assert agent.run("reading", "rename", "ocean", "ocean").returncode == 1
    mongodb.insert([*articles(1, first=10)])
    assert "inserted 1, duplicate 0" in agent.run("reading", "sync").stdout

    done = agent.run("reading", "sync", "--since", "1960-01-01")
    assert (done.returncode, "No window goes as far as since 1960-01-01" in done.stderr) == (1, True)
    assert "name a day from 1970-01-01 to 2106-02-07" in done.stderr
    for command in (("sync",), ("verify",), ("rejected", "list"), ("rejected", "drop", "--all")):
        done = agent.run("reading", *command, "--source", "nobody")
        assert (done.returncode, "There is no reading source nobody" in done.stderr) == (1, True), command
        assert "there are ocean" in done.stderr
        assert "homelab-agent reading status" in done.stderr
