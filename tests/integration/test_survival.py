"""Kill it, starve it, move its clock: what was promised is there, once; samples lack at most the last seconds."""

from __future__ import annotations

import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest

from homelab_agent.core.errors import Exit
from tests.agent import Agent, running
from tests.fixtures.soak import Soak
from tests.neighbours.disk import Disks
from tests.neighbours.faketime import FakeTime
from tests.neighbours.postgres import Postgres
from tests.samples import missing, times
from tests.waiting import until


def kill_at_random(agent: Agent, soak: Soak, least: int) -> None:
    """Kill it at random moments, at least so often; then count promises and samples."""
    promised: set[str] = set()
    kills = 0
    for _ in soak.rounds(least):
        agent.start()
        end = time.monotonic() + soak.dice.uniform(0.1, 5)
        while time.monotonic() < end:
            answer = agent.run("jobs", "run", "--detach", "database.partitions")
            if answer.returncode == 0:
                promised.add(answer.stdout.strip())
        agent.kill()
        kills += 1
    agent.start_with_database()

    def recorded() -> set[str]:
        return {str(row["id"]) for row in agent.sql("SELECT id FROM job_run")}

    assert promised, "no run was ever promised: the test tests nothing"
    until(lambda: promised <= recorded(), "every promised run has its row", seconds=60)
    assert not agent.sql("SELECT id FROM job_run GROUP BY id HAVING count(*) > 1")
    states = {row["state"] for row in agent.sql("SELECT DISTINCT state FROM job_run")}
    assert states <= {"ok", "interrupted", "failed", "cancelled"}
    assert not agent.sql("SELECT 1 FROM memory_sample GROUP BY entity_id, time HAVING count(*) > 1")
    assert not agent.sql("SELECT * FROM gap")
    assert len(missing(agent)) <= kills, "samples are missing elsewhere than at a kill"


@pytest.mark.timeout(300)
def test_killed_at_ten_random_moments_it_loses_no_promise(agent: Agent, soak: Soak) -> None:
    kill_at_random(agent, soak, 10)


@pytest.mark.soak
def test_killed_at_fifty_random_moments_it_loses_no_promise(agent: Agent, soak: Soak) -> None:
    kill_at_random(agent, soak, 50)


def outage(agent: Agent, postgres: Postgres, seconds: float) -> None:
    """Stop PostgreSQL for a while; afterwards every sample is there once, in order."""
    agent.write(database=postgres.url)
    agent.start_with_database()
    until(lambda: len(times(agent)) >= 3, "samples arrive")
    postgres.stop()
    assert agent.until("database.connection", "failed")["repair"]
    time.sleep(seconds)
    assert agent.get("/")[0] == 200, "the page does not need PostgreSQL"
    postgres.start()
    back = datetime.now(UTC)
    until(agent.connected, "PostgreSQL is reached again", seconds=60)
    until(lambda: times(agent)[-1] > back + timedelta(seconds=2), "what waited is there", seconds=60)
    found = times(agent)
    assert not missing(agent)
    assert found == sorted(set(found)), "in order, none twice"
    assert not agent.sql("SELECT * FROM gap")


@pytest.mark.timeout(180)
def test_when_postgresql_stops_every_sample_arrives_later_once_in_order(agent: Agent, postgres: Postgres) -> None:
    """Ten minutes at 10 s are 60 samples: as many, one a second."""
    outage(agent, postgres, 60)


@pytest.mark.soak
def test_when_postgresql_stops_for_ten_minutes_every_sample_arrives_later(agent: Agent, postgres: Postgres) -> None:
    outage(agent, postgres, 600)


@pytest.mark.timeout(240)
def test_a_full_disk_degrades_it_and_it_recovers_by_itself(disk: Disks) -> None:
    small = disk(megabytes=96)
    with running(small.point / "agent") as agent:
        agent.start_with_database()
        until(lambda: len(times(agent)) >= 3, "samples arrive")
        small.fill()
        answer = until(lambda: refused(agent), "a promise is refused, not broken", seconds=30)
        assert "state.db" in answer or "disk" in answer
        assert agent.get("/")[0] == 200
        assert agent.until("state", "failed")["repair"]
        small.free()
        agent.until("state", "ok", seconds=90)
        until(agent.connected, "PostgreSQL too", seconds=90)
        recovered = datetime.now(UTC)
        until(lambda: times(agent)[-1] > recovered, "samples arrive again", seconds=90)
        assert agent.stop() == 0, agent.tail()
        assert "Traceback" not in agent.printed()


def refused(agent: Agent) -> str:
    """Return what a command says when the agent cannot promise a run, "" while it can."""
    answer = agent.run("jobs", "run", "--detach", "database.partitions")
    return answer.stderr if answer.returncode != 0 else ""


@pytest.mark.timeout(240)
def test_the_disk_under_its_state_is_unplugged_and_it_says_so_and_goes_on_once_it_is_back(
    disk: Disks, postgres: Postgres, agent: Agent
) -> None:
    stick = disk.ext4(megabytes=32)
    agent.state = stick.point / "state"
    agent.write(database=postgres.url)
    agent.start_with_database()
    promised = agent.run("jobs", "run", "--detach", "database.partitions").stdout.strip()
    recorded = "SELECT count(*) FROM homelab.job_run WHERE state = 'ok'"
    until(lambda: postgres.psql(recorded) == "1", "the run has its row")
    stick.unplug()
    assert agent.until("state", "failed")["repair"]
    assert refused(agent)
    assert agent.ready(), "the page needs no disk"
    agent.kill()
    stick.mend()
    agent.start_with_database()
    agent.until("state", "ok")
    assert agent.run("jobs", "run", "database.partitions").returncode == 0
    until(lambda: postgres.psql(recorded) == "2", "it promises and ships again")
    assert postgres.psql(f"SELECT state FROM homelab.job_run WHERE id = '{promised}'") == "ok"


def test_who_follows_a_run_is_told_that_the_agent_died_and_how_to_go_on(agent: Agent, postgres: Postgres) -> None:
    agent.write(database=postgres.url)
    agent.start_with_database()
    postgres.freeze()  # the run waits for it
    words = agent.command("jobs", "run", "database.partitions")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        shown = iter(follower.stdout.readline, "")
        assert any("database.partitions: running" in line for line in shown), "it follows a run that runs"
        agent.kill()
        said = follower.communicate(timeout=30)[1]
    assert follower.returncode == Exit.UNREACHABLE
    assert "The agent stopped before the run" in said
    assert "homelab-agent jobs follow" in said


@pytest.mark.timeout(180)
def test_a_clock_set_back_and_forward_an_hour_loses_and_overwrites_no_sample(
    agent: Agent, postgres: Postgres, faketime: FakeTime
) -> None:
    agent.env |= faketime.env
    agent.write(database=postgres.url)
    agent.start_with_database()
    taken = 0
    for step in (0, -3600, 3600, 3600, -3600):
        faketime.step(step)
        taken += 6
        until(lambda wanted=taken: len(times(agent)) >= wanted, f"samples arrive after {step} s", seconds=40)  # type: ignore[misc]
    ticks = agent.sql("SELECT skipped, moved_ms, step_s FROM tick")
    agent.stop()
    found = postgres.psql("SELECT time FROM homelab.memory_sample").splitlines()
    assert len(found) == len(set(found))
    steps = [round(tick["step_s"], -2) for tick in ticks if abs(tick["step_s"]) > 3000]
    assert sorted(steps) == [-3600, -3600, 3600, 3600]
    assert any(tick["moved_ms"] for tick in ticks), "an hour that came twice has its samples side by side"
    assert "rejected" not in agent.printed()


def test_two_starts_after_a_lost_state_say_what_is_gone(agent: Agent) -> None:
    agent.start()
    agent.stop()
    for file in agent.state.glob("state.db*"):
        file.unlink()
    agent.start()
    found = agent.finding("state")
    assert found["state"] == "degraded"
    assert "lost" in found["detail"]


def test_a_damaged_state_is_set_aside_under_a_dated_name(agent: Agent) -> None:
    agent.start()
    agent.stop()
    database = agent.state / "state.db"
    database.write_bytes(b"not a database at all" * 500)
    agent.start()
    assert list(agent.state.glob("state.db.corrupt-2*"))
    assert agent.finding("state")["state"] == "degraded"
