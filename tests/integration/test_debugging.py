"""Every command of docs/debugging.md, on the journal of an agent that is a unit; what `journalctl -x` says there."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from homelab_agent.core.journal import meaning
from homelab_agent.core.journal.sink import message_id
from tests.intruder import ASK, call
from tests.journalled import ROOT, House, housed

PAGE = ROOT / "docs/debugging.md"
CATALOGUE = ROOT / "deploy/systemd/homelab-agent.catalog"
INSTALLED = "/usr/local/lib/systemd/catalog/homelab-agent.catalog"
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL) for line in block.splitlines()
]
MEANINGS = meaning.read(ROOT / "homelab_agent")
MORE = """
[gate]
funnel = true
[backup]
"""
"""Doors that are told of, as there is no tailscaled here; and who asks the root half to resume."""


class Shell:
    """A shell in the machine, with `homelab-agent` on its path."""

    def __init__(self, house: House, run: str) -> None:
        self.house = house
        self.run = run
        program = house.machine.path("/usr/local/bin/homelab-agent")
        program.write_text(f'#!/bin/sh\ncd {ROOT} && exec {" ".join(house.agent.command())} "$@"\n')
        program.chmod(0o755)

    def __call__(self, command: str) -> subprocess.CompletedProcess[str]:
        self.house.machine("journalctl", "--sync")
        return self.house.machine.run("sh", "-c", re.sub(r"\bRUN\b", self.run, command))


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    """One in a machine that was booted twice, and whose agent has done something."""
    directory = Path(tempfile.mkdtemp(prefix="homelab-agent-test-"))
    directory.chmod(0o755)
    try:
        with housed(directory) as house:
            house.agent.write(MORE, database="postgresql://127.0.0.1:1/nothing")
            house.start()
            house.machine.reboot()
            house.machine.path(INSTALLED).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CATALOGUE, house.machine.path(INSTALLED))
            house.machine("journalctl", "--update-catalog")
            house.start()
            run = house.run("jobs", "run", "database.partitions", "--detach").stdout.strip()
            house.run("jobs", "follow", run)
            asking = ("/usr/bin/python3", "-I", "-c", ASK, house.agent.state / "privileged.sock")
            subprocess.run(
                house.machine.inside(*asking),
                input=call("no such verb", {}).line,
                text=True,
                capture_output=True,
                check=True,
            )
            yield Shell(house, run)
    finally:
        shutil.rmtree(directory)


def test_there_are_recipes() -> None:
    assert len(COMMANDS) > 20
    assert len([one for one in COMMANDS if one.startswith("journalctl")]) > 15


@pytest.mark.timeout(180)
@pytest.mark.parametrize("command", COMMANDS)
def test_each_recipe_shows_something(shell: Shell, command: str) -> None:
    done = shell(command)
    assert done.returncode == 0, done.stderr
    shown = [line for line in done.stdout.splitlines() if line and not line.startswith("-- ")]
    assert shown, f"{command}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("command", [one for one in COMMANDS if "MESSAGE_ID=" in one])
def test_a_message_id_in_the_page_is_the_events(command: str) -> None:
    match = re.search(r"MESSAGE_ID=(\w+)  # (\S+)$", command)
    assert match is not None
    assert match[1] == message_id(match[2])


@pytest.mark.timeout(180)
def test_journalctl_explains_a_real_event(shell: Shell) -> None:
    for event, words in (("agent.ready", ""), ("database.unreachable", ""), ("jobs.run_ended", f"--run {shell.run}")):
        said = MEANINGS[event]
        native = shell(f"journalctl -x -b HOMELAB_EVENT={event}").stdout
        by_ours = shell(f"homelab-agent logs --explain --event {event} {words}").stdout
        for shown in (native, by_ours):
            assert said.subject in shown
            for line in said.lines(shell.run):
                assert line in shown


@pytest.mark.timeout(180)
def test_each_event_is_in_the_journals_catalogue(shell: Shell) -> None:
    dumped = shell("journalctl --dump-catalog").stdout
    for event, said in MEANINGS.items():
        assert f"-- {message_id(event)}\nSubject: {said.subject}\nDefined-By: homelab-agent\n" in dumped
        for line in said.lines("@HOMELAB_RUN_ID@"):
            assert line in dumped


@pytest.mark.timeout(180)
def test_each_kind_of_event_is_explained_once(shell: Shell) -> None:
    everything = shell("homelab-agent logs --explain --since 1h").stdout
    assert everything.count(MEANINGS["agent.ready"].subject) == 1
    assert everything.count(" agent ready state=") == 2
    plain = shell("homelab-agent logs --since 1h").stdout
    assert MEANINGS["agent.ready"].subject not in plain
    refused = shell("homelab-agent logs --explain --json")
    assert refused.returncode == 2
    assert "--explain is for a person" in refused.stderr
