"""An installed agent that is killed leaves no door open: what outlives it is shut as it ends (ExecStopPost=)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.installed import CONFIG, SERVICE, Checkout, bare_with_checkout
from tests.neighbours import tailnet as tailnets
from tests.neighbours import tailscale
from tests.neighbours.tailnet import Tailnet
from tests.neighbours.tailscaled import PORT
from tests.waiting import until

pytestmark = pytest.mark.timeout(400)  # the first one installs, on whatever else this host does

TAILNET = "/srv/tailnet"
"""Where the daemon's socket is there: the service's /tmp is its own."""
SECRET = "/etc/homelab-agent/hook-secret"
SETTINGS = f"""
[gate]
funnel = true
socket = "{TAILNET}/homelab.sock"
every = 0.5
in_doubt = 0.1
closed_at_least = 0.5
open_at_least = 0.5

[gitops]
poll = 0

[[gitops.repository]]
name = "site"
full_name = "octo/site"
id = 7
directory = "/srv/site"
secret = [{{name = "main", secret = "file:{SECRET}"}}]
"""
PAGE = 8085


@pytest.fixture(scope="module")
def host(directory: Path) -> Iterator[Checkout]:
    """An installed agent that is to keep a door, on a host with Tailscale's command."""
    with bare_with_checkout(directory, tailscale.built("tailscaled").parent) as one:
        one.made("install")
        shutil.copy(tailscale.built("tailscale"), one.machine.path("/usr/local/bin"))
        one.machine("mkdir", TAILNET)
        one.machine("mount", "--bind", directory, TAILNET)
        one.machine("install", "--owner=homelab-agent", "--mode=600", "/dev/stdin", SECRET)
        one.machine.path(SECRET).write_text("It's a Secret to Everybody")
        one.machine.path(CONFIG).write_text(f"{one.machine.path(CONFIG).read_text()}\n{SETTINGS}")
        yield one


@pytest.fixture(scope="module")
def tailnet(host: Checkout, directory: Path) -> Iterator[Tailnet]:
    """A tailnet of which that host is, where its agent may publish."""
    with tailnets.running(of=host.machine.pid, directory=directory) as one:
        assert "homelab-agent is Tailscale's operator" in host.agent("gate", "operator", "--yes")
        host.machine.systemctl("restart", SERVICE)
        yield one
        host.machine.systemctl("stop", "homelab-agent.socket")


def doors(host: Checkout) -> list[dict[str, Any]]:
    """Return how the doors stand."""
    return [dict(one) for one in json.loads(host.machine("homelab-agent", "gate", "status", "--json"))]


def is_open(host: Checkout) -> bool:
    return host.machine.show(SERVICE)["SubState"] == "running" and doors(host)[0]["phase"] == "open"


def kill(host: Checkout) -> None:
    """Kill the agent's process, and no other of its unit."""
    host.machine.systemctl("kill", "--kill-whom=main", "--signal=SIGKILL", SERVICE)


def test_the_door_of_a_killed_agent_is_shut_and_opened_anew_by_the_next(host: Checkout, tailnet: Tailnet) -> None:
    until(lambda: is_open(host), "the door is open", seconds=60)
    sessions = tailnet.homelab.entries
    assert {(one.port, one.is_public, bool(one.session)) for one in sessions} == {(PORT, True, True)}
    assert tailnet.public.reaches()
    kill(host)
    until(lambda: not tailnet.homelab.entries & sessions, "its session is no more", seconds=10)
    until(lambda: is_open(host), "the next agent opens it", seconds=60)
    assert tailnet.public.reaches()


def test_what_outlives_a_killed_agent_is_shut_when_it_ends(host: Checkout, tailnet: Tailnet) -> None:
    machine, homelab = host.machine, tailnet.homelab
    machine.install(f"{SERVICE}.d/no-other.conf", "[Service]\nRestart=no\n")  # the next would see to it, too
    machine("homelab-agent", "gate", "close", "--reason", "a test")
    until(lambda: not homelab.entries, "the agent has shut its door")
    machine.systemctl("kill", "--kill-whom=main", "--signal=SIGSTOP", SERVICE)  # as would this one, alive
    homelab.publish(PAGE)
    [stays] = homelab.entries
    assert (stays.port, stays.is_public, stays.session) == (PORT, True, "")
    cursor = machine.journal("--lines=1")[0]["__CURSOR"]
    kill(host)
    until(lambda: not homelab.entries, "nothing is published", seconds=10)
    assert not tailnet.public.reaches()
    until(lambda: machine.show(SERVICE)["ActiveState"] == "failed", "it has ended")
    said = [one["MESSAGE"] for one in machine.journal(f"--after-cursor={cursor}", f"--unit={SERVICE}")]
    assert f"took back an entry that stays: port {PORT} of {tailnet.name} to {stays.target}" in said
    machine.systemctl("start", SERVICE)
    assert doors(host)[0]["overlay"] == "held", "what its operator wants it knows from before"
