"""An agent's life: start, stop, start again; and what it says when it cannot start."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from homelab_agent.core.errors import Exit
from tests import user
from tests.agent import DATABASE_SECONDS, Agent
from tests.processes import family, freeze, is_alive
from tests.waiting import until


def stored(agent: Agent) -> int:
    """Return how many samples of the memory family PostgreSQL holds."""
    return int(agent.sql("SELECT count(*) AS n FROM memory_sample")[0]["n"])


def test_it_samples_this_host_stops_in_order_and_goes_on_with_the_same_data(agent: Agent) -> None:
    agent.start_with_database()
    until(lambda: stored(agent) >= 3, "samples are in PostgreSQL", seconds=60)
    assert agent.stop() == 0, agent.tail()
    assert "Traceback" not in agent.printed()
    assert not list(agent.state.glob("postgres/**/postmaster.pid")), "PostgreSQL was left running"
    before = time.time()
    agent.start_with_database()
    assert time.time() - before < 30
    until(lambda: stored(agent) >= 6, "the samples before the stop are still there, and new ones", seconds=60)
    assert agent.stop() == 0


def test_it_prints_the_page_a_tunnel_and_a_log_in_link_that_works_once(agent: Agent) -> None:
    agent.start()
    (link,) = until(lambda: re.findall(r"http://127\.0\.0\.1:\d+(/login\S+)", agent.tail()), "a log-in link")
    assert f"ssh -L {agent.port}:127.0.0.1:{agent.port} " in agent.printed()
    status, page = agent.get(link, {"Accept": "text/html"})
    assert status == 200
    assert b"<form" in page, "the link alone changes nothing: a preview must not use it up"


def test_who_is_refused_again_and_again_does_not_fill_the_log(agent: Agent) -> None:
    agent.start()
    for _ in range(50):
        assert agent.get("/api/runs/none/cancel", method="POST")[0] == 401
    assert agent.stop() == 0
    said = [line for line in agent.log.read_text().splitlines() if "web.refused" in line]
    assert 1 <= len(said) < 20, "the first are written, and how many more there were"
    assert any("suppressed" in line for line in said)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order_and_soon(agent: Agent, number: int) -> None:
    agent.start()
    assert agent.stop(number, seconds=10) == 0, agent.tail()


def test_it_stops_when_told_before_it_is_ready(agent: Agent) -> None:
    agent.spawn()
    until((agent.state / "state.db").exists, "it has begun")
    assert agent.stop() in {0, -signal.SIGTERM}, agent.tail()
    assert "Traceback" not in agent.printed()


def test_a_taken_port_is_said_with_who_holds_it(agent: Agent) -> None:
    with socket.create_server(("127.0.0.1", agent.port)):
        answer = agent.run("run")
    assert answer.returncode == Exit.FAILED
    assert f"Port {agent.port}" in answer.stderr
    assert f"process {os.getpid()}" in answer.stderr
    assert "[web] listen" in answer.stderr


def test_a_second_agent_on_one_directory_says_who_holds_it(agent: Agent) -> None:
    agent.start()
    answer = agent.run("run")
    assert answer.returncode == Exit.BUSY
    assert f"process {agent.pid}" in answer.stderr
    assert agent.ready()


def test_all_faults_of_a_configuration_are_shown_at_once(agent: Agent) -> None:
    agent.config.write_text("[metrics]\nintervall = 10\nslow_interval = 0\n[web]\nlisten = 8085\n[wbe]\nx = 1\n")
    for words in (["run"], ["config", "check"]):
        answer = agent.run(*words)
        assert answer.returncode == Exit.CONFIGURATION
        for said in ("metrics.intervall", "metrics.interval", "config.toml:2", "slow_interval", "web.listen", "wbe"):
            assert said in answer.stdout + answer.stderr
        assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("words", [["status"], ["jobs", "list"], ["reload"], ["web", "login"]])
def test_without_an_agent_a_command_says_how_to_start_one(agent: Agent, words: list[str]) -> None:
    answer = agent.run(*words)
    assert answer.returncode == Exit.UNREACHABLE
    assert "homelab-agent run" in answer.stderr


def test_alone_the_command_leads_with_what_needs_the_operator(agent: Agent) -> None:
    without = agent.run()
    assert "homelab-agent run" in without.stdout
    assert "doctor" in without.stdout
    agent.start()
    assert "needs you" in agent.run().stdout or "All is well" in agent.run().stdout


def test_doctor_checks_also_without_an_agent(agent: Agent) -> None:
    without = agent.run("doctor")
    assert without.returncode == 0, without.stdout + without.stderr
    for check in ("agent.python", "agent.state", "web.listen", "database", "metrics"):
        assert check in without.stdout
    agent.start()
    until(lambda: agent.run("doctor").returncode == 0, "doctor finds all well", seconds=60)


def test_a_reload_applies_a_valid_file_and_keeps_the_old_settings_when_it_is_not(agent: Agent) -> None:
    agent.start()
    agent.write(interval=2)
    answer = agent.run("reload")
    assert answer.returncode == 0, answer.stderr
    assert "metrics.interval" in answer.stdout
    agent.write(interval=-1)
    answer = agent.run("reload")
    assert answer.returncode == Exit.CONFIGURATION
    assert "metrics.interval" in answer.stderr
    assert agent.run("status").returncode == 0, "a faulty file does not hide a running agent"
    agent.send(signal.SIGHUP)
    until(lambda: "config.invalid" in agent.printed(), "the journal says why")
    assert agent.ready()
    agent.write(interval=3)
    agent.send(signal.SIGHUP)
    until(lambda: agent.printed().count("config.reloaded") == 2, "a signal is as good as the command")


@pytest.mark.parametrize("name", ["no-such", "a b", "../ü", "x?y#z"])
def test_a_job_that_is_not_there_is_named(agent: Agent, name: str) -> None:
    agent.start()
    answer = agent.run("jobs", "run", name)
    assert answer.returncode == Exit.FAILED
    assert f"There is no job called {name}" in answer.stderr


def test_following_a_run_that_outlives_the_agent_says_so(agent: Agent) -> None:
    agent.start()
    agent.stop()
    answer = agent.run("jobs", "follow", "01900000-0000-7000-8000-000000000000")
    assert answer.returncode == Exit.UNREACHABLE


def test_closing_its_terminal_ends_it_in_order(agent: Agent) -> None:
    command = " ".join(agent.command("run"))
    words = ["script", "-qefc", command, "/dev/null"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as terminal:
        until(lambda: agent.run("status").returncode == 0, "it runs")
        pid = int((agent.state / "agent.lock").read_text().split()[1].rstrip(","))
        terminal.kill()
    until(lambda: not is_alive(pid), "it has ended")
    assert not (agent.state / "agent.sock").exists(), "it was not in order"
    assert not list(agent.state.glob("postgres/**/postmaster.pid")), "PostgreSQL was left running"


def test_an_ordinary_user_runs_it_too(agent: Agent, open_directory: Path) -> None:
    agent.argv = user.ordinary(agent.argv)
    agent.env = {"PATH": os.environ["PATH"], "HOME": str(open_directory)}
    os.chown(open_directory, user.UID, user.UID)
    agent.config.chmod(0o644)
    agent.start_with_database()
    owners = {path.stat().st_uid for path in agent.state.rglob("*")}
    assert owners == {user.UID}
    assert agent.stop() == 0


def test_when_it_is_killed_while_its_database_is_made_the_tests_end_what_makes_it(agent: Agent) -> None:
    agent.spawn()
    bootstrap = until(lambda: first_line(agent.state / "postgres"), "initdb is at work", seconds=DATABASE_SECONDS)
    assert bootstrap < 0, "a server that serves nobody writes its own number with a minus"
    freeze(-bootstrap)
    agent.kill()
    agent.close()
    assert not is_alive(-bootstrap)


def test_when_it_is_killed_the_tests_wait_for_its_root_half(agent: Agent) -> None:
    agent.start()
    half = until(lambda: [pid for pid in family(agent.pid) if b"privileged" in command_line(pid)], "it has a root half")
    freeze(*half)
    agent.kill()
    agent.close()
    assert not any(map(is_alive, half))


def command_line(pid: int) -> list[bytes]:
    """Return a process's words; none of one that has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return []


def first_line(directory: Path) -> int:
    """Return what a lock file of PostgreSQL below a directory says who holds it; 0 when there is none."""
    for lock in directory.glob("*/*/postmaster.pid"):
        with suppress(FileNotFoundError, IndexError):  # it is gone, or not written yet
            return int(lock.read_text().splitlines()[0])
    return 0
