"""The reading sync as an operator meets it: one agent or two, its commands, what it says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent import Agent, running
from tests.neighbours.mongodb import MongoDB
from tests.neighbours.postgres import Postgres
from tests.reading import NOON, articles, object_id, section, write_password
from tests.waiting import until


@pytest.fixture
def reader(agent: Agent, postgres: Postgres, mongodb: MongoDB, tmp_path: Path) -> Agent:
    """An agent that syncs from `mongodb`, not started yet."""
    password = write_password(tmp_path / "password", mongodb.password)
    agent.write(section(mongodb, password), database=postgres.url)
    return agent


@pytest.fixture
def other(open_directory: Path, reader: Agent) -> Iterator[Agent]:
    """Another host's agent with the same source and the same PostgreSQL."""
    with running(open_directory / "other") as agent:
        text = reader.config.read_text().replace(str(reader.state), str(agent.state)).replace("testhost", "otherhost")
        agent.config.write_text(text.replace(f":{reader.port}", f":{agent.port}"))
        yield agent


def test_a_sync_by_hand_tells_how_it_went_and_status_remembers(reader: Agent, mongodb: MongoDB) -> None:
    mongodb.insert([*articles(120)])
    reader.start_with_database()
    done = reader.run("reading", "sync")
    assert done.returncode == 0, done.stderr
    assert "atlas: ok, inserted 120, duplicate 0, marked 120, rejected 0; 120 rows of 1 day proven" in done.stdout
    [told] = json.loads(reader.run("reading", "status", "--json").stdout)
    assert (told["source"], told["rejected"], told["last"]["status"]) == ("atlas", 0, "ok")
    assert (told["last"]["inserted"], told["last"]["backlog"], told["last"]["host"]) == (120, 0, "testhost")
    assert "atlas" in reader.run("reading", "status").stdout
    assert reader.run("reading", "verify", "--window", "2026-11-28").returncode == 0
    jobs = {job["name"]: job for job in json.loads(reader.run("jobs", "list", "--json").stdout)}
    assert jobs["reading.sync"]["schedule"] == "0 0,12 * * *"
    assert jobs["reading.sync"]["next"]
    [view] = reader.sql("SELECT events, reading_seconds FROM homelab.reading_per_day")
    assert view == {"events": 120, "reading_seconds": 7200}
    assert reader.sql("SELECT backlog, status, rejected FROM homelab.reading_backlog") == [
        {"backlog": 0, "status": "ok", "rejected": 0}
    ]
    assert reader.sql("SELECT origin FROM homelab.reading_freshness WHERE age_seconds >= 0") == [{"origin": "atlas"}]


def test_a_rejected_document_is_shown_tried_again_and_dropped(reader: Agent, mongodb: MongoDB) -> None:
    one, two, three = articles(3)
    mongodb.insert([one, {**two, "event_timestamp": None}, {**three, "event_timestamp": "tomorrow"}])
    first, second = str(object_id(NOON, 1)), str(object_id(NOON, 2))
    reader.start_with_database()
    done = reader.run("reading", "sync")
    assert (done.returncode, "homelab-agent reading rejected list" in done.stderr) == (1, True)
    listed = json.loads(reader.run("reading", "rejected", "list", "--json").stdout)
    assert {(row["key"], row["cause"]) for row in listed} == {(first, "no_time"), (second, "date")}
    assert first in reader.run("reading", "rejected", "list", "--source", "atlas").stdout
    shown = reader.run("reading", "rejected", "show", first).stdout
    assert f"atlas {first}: no_time, event_timestamp is missing" in shown
    assert json.loads(shown.splitlines()[-1])["_id"] == {"$oid": first}
    assert reader.run("reading", "rejected", "show", "nothing").returncode == 1

    with mongodb.collection() as collection:
        collection.update_one({"_id": object_id(NOON, 1)}, {"$set": {"event_timestamp": NOON}})
    done = reader.run("reading", "rejected", "retry", first)
    assert done.returncode == 0, done.stderr
    assert f"atlas {first}: is tried again" in done.stdout
    with mongodb.collection() as collection:
        gone = collection.find_one_and_delete({"_id": object_id(NOON, 2)})
    done = reader.run("reading", "rejected", "retry", second)
    assert (done.returncode, f"atlas {second}: it is not at the source any more" in done.stdout) == (1, True)
    assert "Of 1 documents 1 stay as they were" in done.stderr
    assert "homelab-agent reading rejected drop ID" in done.stderr
    mongodb.insert([gone or {}])
    assert reader.run("reading", "rejected", "drop", second).stdout == f"atlas {second}: dropped\n"
    assert reader.run("reading", "rejected", "drop", second).returncode == 1
    assert reader.run("reading", "rejected", "drop").returncode == 2
    done = reader.run("reading", "sync")
    assert done.returncode == 0, done.stderr
    [left] = json.loads(reader.run("reading", "rejected", "list", "--json").stdout)
    assert (left["key"], left["state"]) == (second, "dropped")
    assert mongodb.statuses() == {
        object_id(NOON, 0): "processed",
        object_id(NOON, 1): "processed",
        object_id(NOON, 2): "rejected",
    }


def test_what_differs_is_named_and_a_backfill_mends_it(reader: Agent, mongodb: MongoDB, postgres: Postgres) -> None:
    mongodb.insert([*articles(10)])
    reader.start_with_database()
    assert reader.run("reading", "sync").returncode == 0
    lost = str(object_id(NOON, 4))
    postgres.psql(f"DELETE FROM homelab.reading_analytics WHERE mongo_id = '{lost}'")
    done = reader.run("reading", "verify")
    assert done.returncode == 1
    assert f"atlas 2026-11-28 {lost} is processed at the source, and not here" in done.stdout
    window = ("--since", "2026-11-28", "--until", "2026-11-29")
    done = reader.run("reading", "sync", *window, "--dry-run")
    assert "inserted 1, duplicate 9, marked 0, rejected 0; a dry run" in done.stdout
    done = reader.run("reading", "sync", *window, "--source", "atlas")
    assert "inserted 1, duplicate 9" in done.stdout
    assert reader.run("reading", "verify").returncode == 0
    assert reader.run("reading", "sync", "--source", "nobody").returncode == 1
    assert reader.run("reading", "sync", "--since", "soon").returncode == 1
    assert reader.run("reading", "verify", "--window", "soon").returncode == 1


def test_of_two_agents_that_begin_at_once_each_document_is_taken_by_one(
    reader: Agent, other: Agent, mongodb: MongoDB, postgres: Postgres
) -> None:
    mongodb.insert([*articles(1500)])
    reader.start_with_database()
    other.start_with_database()
    runs = [(each, each.run("reading", "sync", "--detach").stdout.strip()) for each in (reader, other)]
    for each, run in runs:
        until(lambda: each.json(f"/api/runs/{run}")["ended_at"], "both have ended", seconds=60)  # noqa: B023
        assert each.json(f"/api/runs/{run}")["state"] == "ok"
    told = reader.sql(
        "SELECT sum(inserted) AS inserted, sum(duplicate) AS duplicate, sum(marked) AS marked FROM homelab.sync_history"
    )
    assert told == [{"inserted": 1500, "duplicate": 0, "marked": 1500}]
    assert set(mongodb.statuses().values()) == {"processed"}


def test_when_the_agent_at_work_dies_another_takes_over(
    reader: Agent, other: Agent, mongodb: MongoDB, postgres: Postgres
) -> None:
    mongodb.insert([*articles(3000)])
    reader.start_with_database()
    other.start_with_database()
    reader.run("reading", "sync", "--detach")
    until(lambda: postgres.psql("SELECT count(*) FROM homelab.reading_analytics") != "0", "the first is at work")
    reader.kill()
    done = other.run("reading", "sync", seconds=100)
    assert done.returncode == 0, done.stderr
    assert "3000 rows of 1 day proven" in done.stdout
    status = "SELECT host, status FROM homelab.sync_history ORDER BY started_at"
    assert other.sql(status) == [{"host": "testhost", "status": "interrupted"}, {"host": "otherhost", "status": "ok"}]


def test_doctor_says_whether_each_source_lets_us_in(reader: Agent, mongodb: MongoDB, tmp_path: Path) -> None:
    mongodb.insert([*articles(3)])
    found = _doctor(reader)
    assert found["reading.atlas.source"]["detail"] == "lets us in; 3 documents are to be taken"
    (tmp_path / "password").unlink()
    found = _doctor(reader)
    assert found["reading.atlas.source"]["state"] == "failed"
    assert str(tmp_path / "password") in found["reading.atlas.source"]["repair"]


def test_a_source_that_is_down_is_seen_in_health(reader: Agent, mongodb: MongoDB) -> None:
    mongodb.kill()
    reader.config.write_text(reader.config.read_text().replace("[reading]", "[reading]\npatience = 0.0"))
    reader.start_with_database()
    done = reader.run("reading", "sync")
    assert (done.returncode, "The reading source atlas does not answer" in done.stderr) == (1, True)
    found = reader.finding("reading.atlas")
    assert (found["state"], "does not answer" in found["detail"]) == ("degraded", True)
    assert "failed" in reader.run("status").stdout


def _doctor(reader: Agent) -> dict[str, dict[str, str]]:
    return {one["check"]: one for one in json.loads(reader.run("doctor", "reading", "--json").stdout)}
