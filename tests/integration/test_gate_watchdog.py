"""An agent that stands still is ended by systemd's watchdog, and its door with it: the real systemd and tailscaled."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent import Agent
from tests.gate_home import Home
from tests.neighbours import machine as machines
from tests.neighbours import tailnet as tailnets
from tests.neighbours import tailscale
from tests.neighbours.machine import Machine
from tests.waiting import until

ROOT = Path(__file__).parents[2]
UNIT = "homelab-agent.service"
WATCHED = """
[Service]
Type=notify
WorkingDirectory={directory}
ExecStart={command}
WatchdogSec=10
TimeoutAbortSec=5
"""
"""Not started again by itself: what is left of it when it has ended is what is looked at."""


@pytest.fixture
def machine(open_directory: Path) -> Iterator[Machine]:
    """A machine that has this checkout, what runs it, and Tailscale's programs."""
    needed = [open_directory, ROOT, Path(sys.prefix), tailscale.built("tailscale").parent]
    with machines.running(shared=needed) as one:
        yield one


@pytest.fixture
def home(machine: Machine, open_directory: Path) -> Iterator[Home]:
    """An agent of the machine's, whose network is the tailnet's host."""
    with tailnets.running(of=machine.pid, directory=open_directory) as tailnet:
        agent = Agent(open_directory / "agent")
        home = Home(tailnet, agent, open_directory)
        home.configure()
        machine.install(UNIT, WATCHED.format(directory=ROOT, command=" ".join(agent.command("run"))))
        yield home
        machine.systemctl("stop", UNIT)


@pytest.mark.timeout(300)
def test_an_agent_that_stands_still_is_ended_and_the_door_with_it(machine: Machine, home: Home) -> None:
    machine.systemctl("start", UNIT)
    home.open()
    assert home.ping() == 200
    machine.systemctl("kill", "--kill-whom=main", "--signal=SIGSTOP", UNIT)
    until(lambda: machine.show(UNIT)["Result"] == "watchdog", "the watchdog has ended it", seconds=60)
    until(lambda: not home.tailnet.homelab.entries, "tailscaled publishes nothing", seconds=10)
    assert home.refused()
    machine.systemctl("start", UNIT)
    home.open()
    assert home.ping() == 200
    _, killed = home.openings()
    assert killed["closed_why"] == "the agent ended"
