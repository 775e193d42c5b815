"""An agent that starts before its PostgreSQL does: nothing that it promises needs a database."""

from __future__ import annotations

import pytest

from tests.agent import Agent
from tests.neighbours.postgres import Postgres
from tests.samples import missing, times
from tests.waiting import until

SAMPLES = 8


def taken(agent: Agent) -> int:
    """Return how many samples the agent says it took."""
    status, body = agent.get("/metrics")
    assert status == 200
    lines = body.decode().splitlines()
    return int(next((line.split()[1] for line in lines if line.startswith("homelab_agent_samples_total ")), "0"))


@pytest.mark.timeout(180)
def test_it_samples_and_answers_meanwhile_and_all_samples_arrive_once_it_appears(
    agent: Agent, postgres: Postgres
) -> None:
    postgres.stop()
    agent.write(database=postgres.url)
    agent.start()
    until(lambda: agent.finding("database.connection")["state"] == "failed", "the page says that it is down")
    assert agent.finding("database.connection")["repair"]
    until(lambda: taken(agent) >= SAMPLES, "samples are taken without it")
    assert agent.finding("metrics.sampling")["state"] == "ok"
    assert agent.get("/", {"Accept": "text/html"})[0] == 200
    before = taken(agent)
    postgres.start()
    until(agent.connected, "it is reached", seconds=60)
    until(lambda: stored(postgres) > before, "every sample has arrived", seconds=60)
    assert agent.stop() == 0, agent.tail()
    found = times(agent)
    assert "Traceback" not in agent.printed()
    assert postgres.psql("SELECT count(*) FROM homelab.gap") == "0"
    assert found == sorted(set(found)), "in order, none twice"
    assert not missing(agent)


def stored(postgres: Postgres) -> int:
    """Return how many samples PostgreSQL holds."""
    return int(postgres.psql("SELECT count(*) FROM homelab.tick"))
