"""A move whose agent or target is killed at whatever moment, and begun again: every row is there once."""

from __future__ import annotations

import time

import pytest

from tests.agent import Agent
from tests.fixtures.soak import Soak
from tests.moved import age, ask, history, move, same, seed, url_of
from tests.neighbours.postgres import Postgres
from tests.samples import missing

ROWS = "SELECT count(*) FROM homelab.load_sample WHERE entity_id BETWEEN 7001 AND 7003"


@pytest.mark.timeout(300)
def test_an_agent_killed_in_the_middle_of_a_move_loses_and_repeats_nothing(
    agent: Agent, postgres_timescale: Postgres, soak: Soak
) -> None:
    _killed_again_and_again(agent, postgres_timescale, soak, times=10)


@pytest.mark.soak
def test_an_agent_killed_sixty_times_in_the_middle_of_a_move_loses_and_repeats_nothing(
    agent: Agent, postgres_timescale: Postgres, soak: Soak
) -> None:
    _killed_again_and_again(agent, postgres_timescale, soak, times=60)


def _killed_again_and_again(agent: Agent, target: Postgres, soak: Soak, *, times: int) -> None:
    agent.start_with_database()
    old = url_of(agent)
    for number in (7001, 7002, 7003):
        end = seed(old, number=number, minutes=15)
    age(agent, old)
    before = history(old, end)
    for number in soak.rounds(times):
        if 'url = "embedded"' not in agent.config.read_text():
            break  # it was killed after the change over, which stands
        assert move(agent, target.url, "--detach", "--yes").returncode == 0
        time.sleep(soak.dice.uniform(0, 2))  # a moment of the dice's, not a wait for anything
        if number % 3 == 2:
            target.kill()
            target.start()
        agent.kill()
        agent.start_with_database()
    if 'url = "embedded"' in agent.config.read_text():
        done = move(agent, target.url, "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
    age(agent, target.url)
    same(before, history(target.url, end), end)
    whole = len([row for row in before["samples"] if row["entity_id"] in {7001, 7002, 7003}])
    assert 0 < ask(target.url, ROWS) <= whole
    starts = {row["time"] for row in agent.sql("SELECT time FROM agent_start")}
    assert not set(missing(agent)) - starts, "no sample is missing but while no agent ran"
    assert not agent.sql("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'homelab_move%'")
