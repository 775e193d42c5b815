"""`homelab-agent db dump` and `db load`: what one agent's database holds comes to another's, whole."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.agent import Agent, running
from tests.waiting import until

COUNT = "SELECT count(*) FROM cpu"


def test_a_dump_of_one_agents_database_is_what_anothers_holds_after_it_was_loaded(open_directory: Path) -> None:
    dump = open_directory / "dump"
    with running(open_directory / "first") as first:
        first.start_with_database()
        until(lambda: rows(first) > 0, "a sample was shipped", seconds=30)
        with dump.open("wb") as file:
            subprocess.run(first.command("db", "dump"), env=first.env, stdout=file, check=True, timeout=60)
        kept = rows(first)
    assert dump.read_bytes()[:5] == b"PGDMP"
    with running(open_directory / "second") as second:
        second.write(interval=3600)
        second.start_with_database()
        with dump.open("rb") as file:
            subprocess.run(second.command("db", "load"), env=second.env, stdin=file, check=True, timeout=60)
        assert 0 < rows(second) <= kept
        assert second.run("db", "info").returncode == 0


def test_a_load_of_what_is_no_dump_changes_nothing(agent: Agent) -> None:
    agent.start_with_database()
    until(lambda: rows(agent) > 0, "a sample was shipped", seconds=30)
    done = subprocess.run(
        agent.command("db", "load"), env=agent.env, input=b"no dump", capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert b"does not appear to be a valid archive" in done.stderr
    assert rows(agent) > 0


def rows(agent: Agent) -> int:
    return int(agent.run("db", "psql", "-qAtX", "-c", COUNT).stdout)
