"""The public door of the real agent: the real tailscaled, a relay that lets in what production would, real requests."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.agent import Agent
from tests.neighbours.tailnet import Tailnet
from tests.processes import family
from tests.waiting import until

WEBHOOK = "/api/webhook/gitops"
SECRET = "It's a Secret to Everybody"
QUICK = "every = 0.5\nin_doubt = 0.1\nclosed_at_least = 0.5\nopen_at_least = 0.5\n"


class Home:
    """An agent that opens its door in a tailnet."""

    def __init__(self, tailnet: Tailnet, agent: Agent, directory: Path) -> None:
        self.tailnet = tailnet
        self.agent = agent
        agent.enter(tailnet.network)
        secret = directory / "hook-secret"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        self._gitops = (
            '[gitops]\npoll = 0\n[[gitops.repository]]\nname = "site"\nfull_name = "octo/site"\nid = 7\n'
            f'directory = "{directory}/site"\nsecret = [{{name = "main", secret = "file:{secret}"}}]\n'
        )

    def start(self, more: str = "") -> Home:
        """Start the agent with a gate."""
        host = self.tailnet.homelab
        gate = f'[gate]\nfunnel = true\nsocket = "{host.socket}"\nprogram = "{host.program}"\n{QUICK}{more}\n'
        self.agent.write(gate + self._gitops)
        self.agent.start()
        return self

    def open(self) -> Home:
        """Wait until the internet is let in."""
        until(lambda: self.door["phase"] == "open", "the door is open", seconds=60)
        return self

    @property
    def door(self) -> dict[str, Any]:
        """How the door stands."""
        return dict(self.agent.json("/api/gate")["doors"][0])

    def becomes(self, phase: str, overlay: str = "") -> dict[str, Any]:
        """Wait until the door stands so, and return all that is told of it."""
        found = lambda: (self.door["phase"], self.door["overlay"]) == (phase, overlay)  # noqa: E731
        until(found, f"the door is {phase} {overlay}", seconds=60)
        return self.door

    def refused(self) -> bool:
        """Return whether a visitor from the internet is let in nowhere."""
        try:
            answer = self.tailnet.public.ask("POST", WEBHOOK, body=b"{}")
        except OSError:
            return True
        return answer.status == 503

    def ping(self) -> int:
        """Send a signed ping through the internet; return the status of the answer."""
        body = json.dumps(
            {
                "zen": "Keep it logically awesome.",
                "hook_id": 1,
                "hook": {},
                "repository": {"id": 7, "full_name": "octo/site"},
            }
        ).encode()
        signed = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "ping",
            "X-GitHub-Delivery": f"{time.time_ns()}",
            "X-Hub-Signature-256": signed,
        }
        return self.tailnet.public.ask("POST", WEBHOOK, headers=headers, body=body).status


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
    history = json.loads(home.agent.run("gate", "history", "--json").stdout)
    assert [one["closed_at"] is None for one in history] == [True, False]


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
    before = home.door["exposure"]["id"]
    [child] = [pid for pid in family(home.agent.pid) if b"funnel" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(child, signal.SIGKILL)
    until(lambda: home.door["exposure"] and home.door["exposure"]["id"] != before, "a new opening", seconds=60)
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
