"""`db move`: all history goes to another PostgreSQL of either edition while samples arrive."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from homelab_agent.database import migrations
from homelab_agent.database.editions import TIMESCALE
from homelab_agent.database.moving.order import TO_BE_WRITTEN
from tests.agent import Agent
from tests.moved import age, ask, execute, history, move, same, seed, url_of
from tests.neighbours.postgres import Postgres
from tests.samples import missing
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)

LATER = """
CREATE SCHEMA homelab;
CREATE TABLE homelab.schema_migration (room text, number integer, name text, checksum text, edition text, release text,
    applied_at timestamptz DEFAULT now());
INSERT INTO homelab.schema_migration VALUES ('metrics', 999, 'later', 'x', 'plain', '99')
"""


def aged(agent: Agent, url: str) -> tuple[datetime, Mapping[str, Any]]:
    """Give the agent's database a history that is older than its samples; return until when, and what it says."""
    end = seed(url)
    age(agent, url)
    before = history(url, end)
    assert len(before["1d"]) > 75, "days are for ever"
    assert before["samples"][0]["time"] > end - timedelta(days=62), "samples are not"
    return end, before


def much(url: str) -> datetime:
    """Give a server so much that it takes a while to copy; return until when."""
    for number in range(7001, 7005):
        end = seed(url, number=number, minutes=2, days=40)
    return end


def stays(agent: Agent, url: str, end: datetime, before: Mapping[str, Any]) -> None:
    """Fail unless all is there, also after all that is done to a database with time, and the agent uses it."""
    same(before, history(url, end), end)
    age(agent, url)
    same(before, history(url, end), end)
    starts = {row["time"] for row in agent.sql("SELECT time FROM agent_start")}
    assert not set(missing(agent)) - starts
    agent.stop()
    agent.start_with_database()
    age(agent, url)
    same(before, history(url, end), end)


def test_embedded_goes_to_timescale_while_samples_arrive(agent: Agent, postgres_timescale: Postgres) -> None:
    agent.start_with_database()
    old = url_of(agent)
    end, before = aged(agent, old)
    planned = move(agent, postgres_timescale.url, "--plan")
    assert planned.returncode == 0, planned.stderr
    assert f"timescale edition, {len(migrations.load(TIMESCALE))} migrations to be applied" in planned.stdout
    assert postgres_timescale.psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'homelab'") == "0"
    done = move(agent, postgres_timescale.url, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rm -r" in done.stdout
    assert not list(agent.state.glob("postgres/*/data/postmaster.pid")), "our own server is stopped"
    assert postgres_timescale.password not in agent.printed() + done.stdout
    assert "timescale edition" in agent.run("db", "info").stdout
    assert agent.run("reload").stdout.count("restart") == 0
    stays(agent, postgres_timescale.url, end, before)
    assert not agent.run("doctor", "database").returncode


def test_plain_goes_to_timescale_and_back(agent: Agent, postgres: Postgres, postgres_timescale: Postgres) -> None:
    agent.write(database=postgres.url)
    agent.start_with_database()
    end, before = aged(agent, postgres.url)
    assert move(agent, postgres_timescale.url, "--yes").returncode == 0
    stays(agent, postgres_timescale.url, end, before)
    done = move(agent, postgres.url, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "were there already" in done.stdout
    stays(agent, postgres.url, end, before)


def test_timescale_goes_to_an_empty_plain_one_and_to_the_embedded_one(
    agent: Agent, postgres_timescale: Postgres, postgres_debian: Postgres
) -> None:
    agent.write(database=postgres_timescale.url)
    agent.start_with_database()
    end, before = aged(agent, postgres_timescale.url)
    done = move(agent, postgres_debian.url, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    stays(agent, postgres_debian.url, end, before)
    done = move(agent, "embedded", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    stays(agent, url_of(agent), end, before)


def test_plain_15_goes_to_plain_18(agent: Agent, postgres_debian: Postgres, postgres: Postgres) -> None:
    agent.write(database=postgres_debian.url)
    agent.start_with_database()
    end, before = aged(agent, postgres_debian.url)
    done = move(agent, postgres.url, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    stays(agent, postgres.url, end, before)


@pytest.mark.parametrize("kind", ["postgres", "postgres_timescale"])
def test_a_target_that_another_host_ships_to_is_merged_into(
    agent: Agent, kind: str, request: pytest.FixtureRequest
) -> None:
    target: Postgres = request.getfixturevalue(kind)
    agent.write(database=target.url)
    agent.start_with_database()
    seed(target.url, host="otherhost", number=7002)
    age(agent, target.url)
    agent.stop()
    agent.write()
    agent.start_with_database()
    end, before = aged(agent, url_of(agent))
    others = history(target.url, end, host="otherhost")
    done = move(agent, target.url, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    stays(agent, target.url, end, before)
    same({**others, "reading": []}, {**history(target.url, end, host="otherhost"), "reading": []}, end)


def test_a_row_that_is_taken_away_in_the_target_is_found_and_copied_again(agent: Agent, postgres: Postgres) -> None:
    agent.start_with_database()
    end, before = aged(agent, url_of(agent))
    detached = move(agent, postgres.url, "--detach")
    run = detached.stdout.strip()
    until(lambda: agent.json(f"/api/runs/{run}")["state"] == "ok", "all is copied", seconds=60)
    assert 'url = "embedded"' in agent.config.read_text()
    gone = ask(
        postgres.url,
        "WITH gone AS (DELETE FROM homelab.load_sample WHERE entity_id = 7001 AND threads = 207 RETURNING 1)"
        " SELECT count(*) FROM gone",
    )
    assert gone > 3
    execute(
        postgres.url,
        "DELETE FROM homelab.load_1d_rollup WHERE entity_id = 7001 AND time < now() - '70 d'::interval;"
        "UPDATE homelab.fact SET value = 'another' WHERE key = '7'",
    )
    done = move(agent, postgres.url, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    stays(agent, postgres.url, end, before)


def test_a_row_deleted_in_the_source_meanwhile_goes_from_the_target_and_no_other_one(
    agent: Agent, postgres: Postgres
) -> None:
    agent.start_with_database()
    aged(agent, url_of(agent))
    run = move(agent, postgres.url, "--detach").stdout.strip()
    until(lambda: agent.json(f"/api/runs/{run}")["state"] == "ok", "all is copied", seconds=60)
    execute(url_of(agent), "DELETE FROM homelab.reading_analytics WHERE mongo_id = 'doc7'")
    execute(postgres.url, "UPDATE homelab.reading_analytics SET mongo_id = 'of another host' WHERE mongo_id = 'doc8'")
    assert move(agent, postgres.url, "--yes").returncode == 0
    found = agent.sql("SELECT mongo_id FROM reading_analytics")
    assert len(found) == 500
    assert {"doc8", "of another host"} < {row["mongo_id"] for row in found}
    assert "doc7" not in {row["mongo_id"] for row in found}


def test_nothing_is_begun_where_it_cannot_be_gone_through_with(
    agent: Agent, postgres: Postgres, postgres_debian: Postgres
) -> None:
    agent.write(database=postgres.url)
    agent.start_with_database()
    same_one = move(agent, f"{postgres.url}&application_name=other", "--yes")
    assert "is the database that the agent uses already" in same_one.stderr
    wrong = postgres_debian.url.replace("s3cret", "wr0ng")
    refused = move(agent, wrong, "--yes")
    assert "password authentication failed" in refused.stderr
    assert "wr0ng" not in refused.stdout + refused.stderr + agent.printed()
    assert "postgresql://user:password@host" in move(agent, "http://example.org/x", "--yes").stderr
    assert "is not there" in move(agent, "file:/nowhere/at/all", "--yes").stderr
    execute(postgres_debian.url, "CREATE ROLE weak LOGIN PASSWORD 'weak'")
    user, _, rest = postgres_debian.url.partition("@")
    assert user
    assert "CREATE on the database" in move(agent, f"postgresql://weak:weak@{rest}", "--yes").stderr
    execute(postgres_debian.url, LATER)
    assert "of a newer release: it has metrics 0999" in move(agent, postgres_debian.url, "--yes").stderr
    tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'homelab'::regnamespace"
    assert ask(postgres_debian.url, tables) == 1
    assert "is not known where to" in agent.run("jobs", "run", "database.move").stderr
    assert agent.connected()


@pytest.mark.parametrize("which", ["source", "target"])
def test_a_server_that_goes_away_is_waited_for(
    agent: Agent, postgres: Postgres, postgres_timescale: Postgres, which: str
) -> None:
    dying = {"source": postgres, "target": postgres_timescale}[which]
    agent.write(database=postgres.url)
    agent.start_with_database()
    end = much(postgres.url)
    age(agent, postgres.url)
    before = history(postgres.url, end)
    run = move(agent, postgres_timescale.url, "--detach", "--yes").stdout.strip()
    until(lambda: (agent.json(f"/api/runs/{run}")["progress"] or {}).get("unit") == "rows", "rows are copied")
    dying.kill()
    until(lambda: "move_waits" in agent.printed(), "it is said")
    assert agent.json(f"/api/runs/{run}")["state"] == "running"
    dying.start()
    until(lambda: agent.json(f"/api/runs/{run}")["ended_at"], "it has ended", seconds=90)
    assert agent.json(f"/api/runs/{run}")["state"] == "ok", agent.json(f"/api/runs/{run}")
    stays(agent, postgres_timescale.url, end, before)


def unwritable(agent: Agent) -> Agent:
    """Have its configuration in a directory that it may read alone, as a service's is."""
    place = agent.directory / "etc"
    place.mkdir()
    agent.config = place / "config.toml"
    agent.write()
    mounted = f'mount --bind --options ro {place} {place} && exec "$@"'
    agent.argv = ["unshare", "--mount", "sh", "-c", mounted, "sh", *agent.command("run")]
    return agent


@pytest.mark.parametrize("who", ["command", "person"])
def test_an_agent_that_may_not_write_its_configuration_waits_for_who_may(
    agent: Agent, postgres: Postgres, who: str
) -> None:
    unwritable(agent).start_with_database()
    end, before = aged(agent, url_of(agent))
    if who == "command":
        done = move(agent, postgres.url, "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        run = move(agent, postgres.url, "--detach", "--yes").stdout.strip()
        with subprocess.Popen(agent.command("jobs", "follow", run), stdout=subprocess.PIPE, text=True) as follower:
            assert follower.stdout is not None
            assert any(TO_BE_WRITTEN in line for line in follower.stdout), "it waits"
            agent.write(database=postgres.url)
            assert "database.move: ok" in follower.stdout.read()
    assert postgres.url in agent.config.read_text()
    stays(agent, postgres.url, end, before)


def test_a_move_that_is_cancelled_changes_nothing_and_goes_on_later(agent: Agent, postgres: Postgres) -> None:
    agent.start_with_database()
    end = much(url_of(agent))
    age(agent, url_of(agent))
    before = history(url_of(agent), end)
    run = move(agent, postgres.url, "--detach", "--yes").stdout.strip()
    until(lambda: (agent.json(f"/api/runs/{run}")["progress"] or {}).get("unit") == "rows", "rows are copied")
    agent.run("jobs", "cancel", run)
    until(lambda: agent.json(f"/api/runs/{run}")["ended_at"], "it has ended")
    assert agent.json(f"/api/runs/{run}")["state"] == "cancelled"
    assert agent.connected()
    done = move(agent, postgres.url, "--yes")
    assert "are there already" in done.stdout, done.stdout
    stays(agent, postgres.url, end, before)
