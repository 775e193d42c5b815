"""The agent's own set: its state and its database are backed up with the first other set, and make a new machine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from homelab_agent.backup.own import CommandFailed, OwnDump
from homelab_agent.core.whereabouts import Whereabouts
from tests import user
from tests.agent import Agent, running
from tests.neighbours.neighbour import need_root
from tests.waiting import until

SET = "homelab-agent"


def configure(agent: Agent, *, copies: Path, things: Path, more: str = "") -> None:
    """Give an agent one set, of files that no container writes, and copies in a place that others may share."""
    agent.write(
        f'[backup]\ndirectory = "{copies}"\nrecords = "{agent.directory / "records"}"\nschedule = ""\n'
        f'verify_schedule = ""\n[[backup.set]]\nname = "things"\npaths = ["{things}"]\nmode = "live"\n{more}'
    )


def asked(agent: Agent, *words: str, code: int = 0) -> str:
    done = agent.run(*words, seconds=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def runs(agent: Agent) -> list[str]:
    """Return the ids of the backups in the agent's history."""
    return [one["id"] for one in agent.json("/api/runs")["runs"] if one["job"] == "backup.run"]


def rows(agent: Agent) -> list[str]:
    """Return the ids of the backups in the agent's database."""
    return [str(one["id"]) for one in agent.sql("SELECT id FROM job_run WHERE job = 'backup.run'")]


@pytest.fixture
def things(open_directory: Path) -> Path:
    place = open_directory / "things"
    place.mkdir()
    (place / "file").write_text("a person's\n")
    return place


@pytest.fixture
def second(open_directory: Path) -> Iterator[Agent]:
    """Another machine's agent: nothing of the first but where the copies are."""
    with running(open_directory / "second") as child:
        yield child


def test_a_new_machine_goes_on_with_the_history_and_the_database_of_the_lost_one(
    agent: Agent, second: Agent, things: Path, open_directory: Path
) -> None:
    copies = open_directory / "copies"
    configure(agent, copies=copies, things=things)
    agent.start_with_database()
    asked(agent, "backup", "run", SET)
    [first] = runs(agent)
    until(lambda: rows(agent) == [first], "the run is in the database", seconds=30)
    asked(agent, "backup", "run", SET)
    assert "has no containers to start" in asked(agent, "backup", "drill", SET, code=1)
    agent.close()

    configure(second, copies=copies, things=things)
    second.start_with_database()
    assert "systemctl stop homelab-agent" in asked(second, "restore", SET, "--yes", code=75)
    assert first not in runs(second)
    second.stop()
    newest = max(copies.rglob("*.json"), key=lambda path: path.name)
    sha256 = json.loads(newest.read_text())["sha256"]
    assert f"--trust {sha256}" in asked(second, "restore", SET, "--yes", code=2)
    said = asked(second, "restore", SET, "--yes", "--trust", sha256)
    undo = said.split()[-1]
    second.start_with_database()
    assert first in runs(second)
    assert first in rows(second)
    assert second.finding("state")["state"] == "ok"
    assert "up to date" in asked(second, "db", "migrate")

    second.kill()
    refused = asked(second, "restore", "undo", undo, code=75)
    assert "postgres (process" in refused
    assert "systemctl stop homelab-agent" in refused
    second.start_with_database()
    second.stop()
    asked(second, "restore", "undo", undo)
    second.start_with_database()
    assert first not in runs(second)
    assert first not in rows(second)


async def test_a_command_of_the_agents_runs_as_the_agents_user_and_follows_no_link_of_its(open_directory: Path) -> None:
    state, hidden = open_directory / "state", open_directory / "hidden"
    state.mkdir()
    need_root("only root reads what another user may not")
    os.chown(state, user.UID, user.UID)
    hidden.write_text("root's alone\n")
    hidden.chmod(0o600)
    (state / "state.db").symlink_to(hidden)
    script = 'id -u; cat "$STATE_DIRECTORY/state.db"; exit "$1"'
    where = Whereabouts(state, None, ["sh", "-c", script, "sh"])
    assert await dumped(OwnDump("m", ["0"], where)) == f"{user.UID}\n".encode()
    with pytest.raises(CommandFailed, match="Permission denied"):
        await dumped(OwnDump("m", ["3"], where))


async def dumped(dump: OwnDump) -> bytes:
    async with dump.opened() as pieces:
        return b"".join([piece async for piece in pieces])
