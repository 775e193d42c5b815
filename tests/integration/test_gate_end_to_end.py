"""The public door of the real agent: the real tailscaled, a relay that lets in what production would, real requests."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.agent import Agent
from tests.gate_home import WEBHOOK, Home
from tests.neighbours.tailnet import Tailnet
from tests.processes import family
from tests.waiting import until


@pytest.fixture
def home(tailnet: Tailnet, agent: Agent, open_directory: Path) -> Home:
    return Home(tailnet, agent, open_directory)


def test_the_internet_reaches_the_webhook_and_nothing_else(home: Home) -> None:
    home.start().open()
    assert home.ping() == 200
    public = home.tailnet.public
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"):
        assert public.ask(method, WEBHOOK).status == 405
    for path in ("/", "/api/gate", "/api/health", "/api/health/live", "/metrics", "/login", "/api/gitops/deliveries"):
        for method in ("GET", "POST"):
            assert public.ask(method, path).status == 404
    assert home.tailnet.loopback.ask("GET", "/api/gate", port=home.agent.port).status == 200
    told = home.agent.run("gate", "why")
    assert told.returncode == 0
    assert "funnel: open since" in told.stdout
    assert "requests from 1 addresses" in told.stdout


def test_a_hold_shuts_it_and_outlives_the_agent_until_it_is_released(home: Home) -> None:
    home.start().open()
    said = home.agent.run("gate", "close", "--reason", "moving house")
    assert said.returncode == 0, said.stderr
    assert "held" in said.stdout
    assert home.refused()
    home.becomes("closed", "held")
    assert home.agent.stop() == 0
    home.agent.start()
    assert "moving house" in home.becomes("closed", "held")["why"]
    assert home.refused()
    assert home.agent.run("gate", "auto").returncode == 0
    home.open()
    assert home.ping() == 200
    assert [one["closed_at"] is None for one in openings(home)] == [True, False]


def openings(home: Home) -> list[dict[str, Any]]:
    """Return the openings that the ledger knows, the newest first."""
    known: list[dict[str, Any]] = json.loads(home.agent.run("gate", "history", "--json").stdout)
    return known


def test_a_hold_for_a_time_ends_by_itself(home: Home) -> None:
    home.start().open()
    assert home.agent.run("gate", "close", "--for", "2s", "--reason", "a moment").returncode == 0
    assert home.refused()
    home.open()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_when_the_agent_ends_the_door_is_shut(home: Home, number: signal.Signals) -> None:
    home.start().open()
    if number == signal.SIGKILL:
        home.agent.kill()
    else:
        home.agent.stop()
    until(lambda: not home.tailnet.homelab.entries, "tailscaled publishes nothing", seconds=10)
    assert home.refused()


def test_when_the_session_is_killed_it_opens_anew(home: Home) -> None:
    home.start().open()
    assert len(openings(home)) == 1
    [child] = [pid for pid in family(home.agent.pid) if b"funnel" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(child, signal.SIGKILL)
    until(lambda: len(openings(home)) == 2, "it is opened anew", seconds=60)
    home.open()
    assert home.ping() == 200


def test_what_others_publish_stays_and_a_port_that_is_theirs_is_a_conflict(home: Home) -> None:
    host = home.tailnet.homelab
    host.publish(9000, port=10000, public=True)
    others = host.entries
    home.start().open()
    home.agent.stop()
    until(lambda: host.entries == others, "only ours is gone", seconds=10)
    host.publish(9001, port=8443, public=False)
    home.agent.start()
    assert "9001" in home.becomes("closed", "conflict")["why"]
    assert home.refused()
