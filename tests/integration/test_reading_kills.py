"""An agent that is killed at whatever moment of a sync: nothing is lost, nothing is there twice, no mark lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homelab_agent.core.client import Client
from tests.agent import Agent
from tests.fixtures.soak import Soak
from tests.neighbours.mongodb import MongoDB
from tests.neighbours.postgres import Postgres
from tests.reading import articles, section, write_password
from tests.waiting import until

DOCUMENTS = 5000
BATCH = 100
END_SECONDS = 100.0


def test_an_agent_killed_in_the_middle_of_a_sync_loses_and_repeats_nothing(
    agent: Agent, postgres: Postgres, mongodb: MongoDB, soak: Soak, tmp_path: Path
) -> None:
    _killed_again_and_again(agent, postgres, mongodb, soak, tmp_path, times=10)


@pytest.mark.soak
def test_an_agent_killed_sixty_times_in_the_middle_of_a_sync_loses_and_repeats_nothing(
    agent: Agent, postgres: Postgres, mongodb: MongoDB, soak: Soak, tmp_path: Path
) -> None:
    _killed_again_and_again(agent, postgres, mongodb, soak, tmp_path, times=60)


def _killed_again_and_again(
    agent: Agent, postgres: Postgres, mongodb: MongoDB, soak: Soak, directory: Path, *, times: int
) -> None:
    mongodb.insert([_poisoned(one) if number % 97 == 0 else one for number, one in enumerate(articles(DOCUMENTS))])
    password = write_password(directory / "password", mongodb.password)
    agent.write(section(mongodb, password).replace("[reading]", f"[reading]\nbatch = {BATCH}"), database=postgres.url)
    agent.start_with_database()
    for number in soak.rounds(times):
        run = _start(agent)
        stored = len(_keys(postgres, "reading_analytics", "mongo_id")) + soak.dice.randrange(2 * BATCH)
        until(lambda: _is_far(agent, postgres, run, stored), "the run is as far as it may come")  # noqa: B023
        agent.kill()
        assert _check(postgres, mongodb) >= 0
        if number % 20 == 19:
            mongodb.insert([*articles(2000, first=10_000 + 2000 * number)])
        agent.start_with_database()
    run = _start(agent)
    until(lambda: agent.json(f"/api/runs/{run}")["ended_at"], "the last run has ended", seconds=END_SECONDS)
    assert _check(postgres, mongodb) == 0
    assert {run["status"] for run in agent.sql("SELECT status FROM homelab.sync_history")} >= {"interrupted"}


def _poisoned(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "event_timestamp": "no time"}


def _start(agent: Agent) -> str:
    run: str = Client(agent.state / "agent.sock").post("/api/sync/reading")["run"]
    return run


def _is_far(agent: Agent, postgres: Postgres, run: str, stored: int) -> bool:
    is_over = agent.json(f"/api/runs/{run}")["ended_at"] is not None
    return is_over or len(_keys(postgres, "reading_analytics", "mongo_id")) > stored


def _check(postgres: Postgres, mongodb: MongoDB) -> int:
    """Hold marks against rows: each document is in one place at most, and marked only when it is.

    Return how many are left to be taken.
    """
    rows, rejected = _keys(postgres, "reading_analytics", "mongo_id"), _keys(postgres, "reading_rejected", "key")
    assert len(rows) == len(set(rows))
    assert not set(rows) & set(rejected)
    statuses = {str(key): status for key, status in mongodb.statuses().items()}
    assert {key for key, status in statuses.items() if status == "processed"} <= set(rows)
    assert {key for key, status in statuses.items() if status == "rejected"} <= set(rejected)
    assert {*rows, *rejected} <= set(statuses)
    left = [key for key, status in statuses.items() if status == "ingested"]
    if not left:
        assert {*rows, *rejected} == set(statuses)
    return len(left)


def _keys(postgres: Postgres, table: str, column: str) -> list[str]:
    return postgres.psql(f"SELECT {column} FROM homelab.{table}").split()
