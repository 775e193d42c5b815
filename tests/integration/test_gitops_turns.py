"""What a killed agent has left at work in a working copy is over before the next agent's calls begin there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket
from typing import Any

import pytest

from tests import root_half
from tests.gitops_half import COMMAND, Site, section_of
from tests.neighbours.git_remote import GitRemote
from tests.waiting import until

WAITS = "echo began >>{notes}; until [ -e {go} ]; do sleep 0.05; done"
"""Says that it has begun, and ends when a file is there."""
ALONE = 'trap "" TERM; exec 9>>{notes}; flock --nonblock 9 || echo beside another >>{notes}; '
"""Does not end when it is told to, and says so when it finds itself beside another one."""


class House:
    """A root half as systemd starts it, which outlives the agents that call it, and a working copy."""

    def __init__(self, directory: Path, remote: GitRemote) -> None:
        remote.commit({".gitattributes": "*.txt filter=slow\n", "a.txt": "one\n", "b.txt": "one\n"})
        self.site = Site(directory, remote)
        self.notes, self.go = directory / "notes", directory / "go"
        self.notes.touch()
        self.notes.chmod(0o666)
        self.config = directory / "config.toml"
        waits = WAITS.format(notes=self.notes, go=self.go)
        self.site.git("config", "filter.slow.smudge", f"{waits}; cat")
        action = {"name": "long", "command": ["sh", "-c", ALONE.format(notes=self.notes) + waits], "repeat": True}
        probe = {"kind": "command", "command": ["true"]}
        self.config.write_text(self.site.settings(sections={"action": [action], "probe": [probe]}))
        argv = [*COMMAND, "--config", str(self.config), "privileged", "serve"]
        self.half = root_half.Unit(directory, command=argv)

    @contextmanager
    def asked(self, verb: str, **arguments: Any) -> Iterator[Callable[[], dict[str, Any]]]:
        """Ask for a verb as an agent that is there for as long as the context; gives what waits for the answer."""
        with self.half.connect() as connection:
            root_half.ask(connection, verb, repository="site", section=section_of(self.config), **arguments)
            yield lambda: answer(connection)

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        with self.asked(verb, **arguments) as answered:
            return answered()

    def killed(self, verb: str, **arguments: Any) -> None:
        """Ask for a verb as an agent that is killed when what it asked for has begun."""
        begun = self.begun
        with self.asked(verb, **arguments):
            until(lambda: self.begun > begun, "it has begun")

    @property
    def begun(self) -> int:
        return self.notes.read_text().count("began")

    def turn(self) -> None:
        """Ask for what waits for nobody; what was asked for before that has begun, or waits."""
        assert self.ask("run_probe", probe=0)["holds"]


def answer(connection: socket) -> dict[str, Any]:
    said = root_half.hear(connection)[-1]
    assert "answer" in said, said
    return dict(said["answer"])


@pytest.fixture
def house(open_directory: Path, git_remote: GitRemote) -> Iterator[House]:
    made = House(open_directory, git_remote)
    made.half.start()
    try:
        yield made
    finally:
        made.go.touch()
        made.half.close()


def test_git_that_is_still_putting_back_a_move_is_waited_for(house: House) -> None:
    target = house.site.remote.commit({"a.txt": "two\n", "b.txt": "two\n"})
    house.killed("git_sync")
    until((house.site.path / ".git/index.lock").exists, "the move is being put back")
    with house.asked("git_plan") as planned, house.asked("git_sync") as moved:
        house.turn()
        house.go.touch()
        assert planned()["verdict"] == "ok"
        said = moved()
    assert (said["verdict"], said["head"]) == ("ok", target)


@pytest.mark.parametrize("verb", ["git_sync", "git_rollback"])
def test_nothing_moves_below_an_action_that_outlives_its_agent(house: House, verb: str) -> None:
    first = house.site.head
    house.site.remote.commit({"c": "two\n"})
    before = house.ask("git_sync")["head"]
    last = house.site.remote.commit({"c": "three\n"})
    house.killed("run_action", action="long")
    target = {"git_sync": last, "git_rollback": first}[verb]
    with house.asked(verb, sha=target) as moved:
        house.turn()
        assert house.ask("git_plan")["head"] == before, "a plan waits for no action"
        assert house.site.head == before
        house.go.touch()
        said = moved()
    assert (said["verdict"], said["head"]) == ("ok", target)


def test_an_action_that_outlives_its_agent_is_not_run_beside_itself(house: House) -> None:
    house.killed("run_action", action="long")
    changed = house.config.read_text() + "# the verbs are made anew\n"
    house.config.with_suffix(".new").write_text(changed)
    house.config.with_suffix(".new").replace(house.config)
    with house.asked("run_action", action="long") as ran:
        house.turn()
        house.go.touch()
        assert ran()["state"] == "ok"
    assert "beside another" not in house.notes.read_text()
    assert house.begun == 2


def test_who_waits_in_vain_goes_away_and_the_next_is_served(house: House) -> None:
    house.killed("run_action", action="long")
    with house.asked("git_sync"):
        house.turn()
    house.go.touch()
    assert house.ask("git_sync")["verdict"] == "up_to_date"
