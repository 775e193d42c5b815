"""The public door of the real agent: the real tailscaled, a relay that lets in what production would, real requests."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest

from homelab_agent.core.errors import Exit
from homelab_agent.gate.ledger import KEPT
from tests.agent import Agent
from tests.fixtures.soak import Soak
from tests.gate_home import WEBHOOK, Home
from tests.neighbours.tailnet import Tailnet
from tests.neighbours.tailnet_world import PORTS
from tests.neighbours.visitors import Refused
from tests.processes import family
from tests.published import publishing
from tests.waiting import until

GRAFANA, GRAFANA_DOOR = 3000, 10000
"""Where it listens, and a port that the public could be let in by."""


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
    assert [one["closed_at"] is None for one in home.openings()] == [True, False]


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
    assert len(home.openings()) == 1
    [child] = [pid for pid in family(home.agent.pid) if b"funnel" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(child, signal.SIGKILL)
    until(lambda: len(home.openings()) == 2, "it is opened anew", seconds=60)
    home.open()
    assert home.ping() == 200
    assert "conflict" not in home.agent.log.read_text(), "its own session that had just ended is nobody else's"


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


def test_grafana_is_reached_from_the_tailnet_under_the_hosts_name_and_from_nowhere_else(home: Home) -> None:
    laptop, public = home.tailnet.laptop, home.tailnet.public
    with publishing(home.tailnet.network, GRAFANA):
        where = f'grafana = "http://127.0.0.1:{GRAFANA}"\ngrafana_port = {GRAFANA_DOOR}\n'
        home.start(f"tailnet = true\n{where}").open()
        until(lambda: laptop.reaches(GRAFANA_DOOR), "Grafana is in the tailnet", seconds=60)
        for visitor in (laptop, home.tailnet.server):
            answer = visitor.ask("GET", "/d/host?orgId=1", port=GRAFANA_DOOR)
            asked = json.loads(answer.body)
            assert (answer.status, asked["path"]) == (200, "/d/host?orgId=1")
            assert ["X-Forwarded-Host", f"{home.tailnet.name}:{GRAFANA_DOOR}"] in asked["headers"]
        with laptop.connect(GRAFANA_DOOR) as connection:
            live = connection.upgrade("/echo")
            live.send(b"Grafana Live")
            assert live.read(12) == b"Grafana Live"
        with pytest.raises(Refused):
            public.connect(GRAFANA_DOOR)
        assert public.ask("GET", "/d/host?orgId=1").status == 404
        assert (GRAFANA_DOOR, False) in {(one.port, one.is_public) for one in home.tailnet.homelab.entries}
        home.agent.stop()
        until(lambda: not home.tailnet.homelab.entries, "tailscaled publishes nothing", seconds=10)
        assert not laptop.reaches(GRAFANA_DOOR)


def test_what_a_dead_agent_left_is_taken_back_without_one_and_nothing_else(home: Home) -> None:
    host = home.tailnet.homelab
    host.publish(9000, port=10000, public=True)
    others = host.entries
    home.configure()
    assert home.agent.run("gate", "close", "--now").stdout == "nothing was open\n"
    host.publish(home.agent.port, port=8443, public=True)
    said = home.agent.run("gate", "close", "--now")
    assert (said.returncode, "8443" in said.stdout) == (0, True), said.stderr
    assert host.entries == others


def test_a_door_that_is_open_for_longer_than_was_meant_is_told_and_shut_as_is_advised(home: Home) -> None:
    home.start().open()
    home.agent.until("gate.exposure", "ok")
    home.configure("tell_open_after = 2\n")
    assert "gate.tell_open_after" in home.agent.run("reload").stdout
    told = home.agent.until("gate.exposure", "degraded")
    assert told["detail"] == "the internet has been let in for more than 2 s ([gate] tell_open_after)"
    assert home.door["phase"] == "open"
    home.agent.run(*shlex.split(told["repair"])[1:])
    assert home.becomes("closed", "held")["why"].endswith("it is not needed any more")
    home.agent.until("gate.exposure", "ok")


def test_a_session_of_nobodys_on_the_doors_port_is_told_and_ended_by_what_is_advised(home: Home) -> None:
    home.start().open()
    assert home.agent.run("gate", "close", "--reason", "an upgrade").returncode == 0
    home.becomes("closed", "held")
    with home.tailnet.homelab.session(home.agent.port, port=8443, public=True):
        told = home.agent.until("gate.exposure", "failed")
        assert "was not begun by this agent" in told["detail"]
        assert home.refused()
        assert home.agent.run(*shlex.split(told["repair"])[1:]).returncode == 0
        home.agent.until("gate.exposure", "ok")


def open_and_shut(home: Home, rounds: Iterable[int]) -> None:
    """Hold and release the door so often, beside what others publish: that stays, and each opening is written down."""
    host = home.tailnet.homelab
    host.publish(9000, port=10000, public=True)
    others = host.entries
    with host.session(9001, port=443, public=False) as other:
        foreground = host.entries - others
        home.start().open()
        for number in rounds:
            assert home.agent.run("gate", "close", "--reason", f"round {number}").returncode == 0
            assert host.entries == others | foreground
            assert home.agent.run("gate", "auto").returncode == 0
            home.open()
            assert host.entries > others | foreground
        assert other.runs
    known = json.loads(home.agent.run("gate", "history", "--limit", str(KEPT), "--json").stdout)
    assert ["round" in one["closed_why"] for one in known] == [False, *[True] * (number + 1)][:KEPT]


@pytest.mark.timeout(240)
def test_through_ten_openings_others_entries_are_untouched_and_each_is_in_the_ledger(home: Home, soak: Soak) -> None:
    open_and_shut(home, soak.rounds(10))


@pytest.mark.soak
def test_through_a_hundred_openings_they_are_too(home: Home, soak: Soak) -> None:
    open_and_shut(home, soak.rounds(100))


def test_the_doctor_says_all_that_a_door_needs_with_and_without_an_agent(home: Home) -> None:
    home.configure()
    found = {one["check"]: one for one in json.loads(home.agent.run("doctor", "gate", "--json").stdout)}
    assert found["gate.program"]["state"] == found["gate.funnel.needs"]["state"] == "ok"
    home.tailnet.homelab.publish(9000, port=8443, public=True)
    home.tailnet.control.withdraw(PORTS)
    home.agent.start()
    done = home.agent.run("doctor", "gate", "--json")
    found = {one["check"]: one for one in json.loads(done.stdout)}
    assert done.returncode == Exit.FAILED
    assert "does not allow Funnel on port 8443" in found["gate.funnel.needs"]["detail"]
    assert "port 8443 is taken" in found["gate.funnel.needs"]["detail"]
    assert "tailscale serve --https=8443 off" in found["gate.funnel.needs"]["repair"]


@pytest.mark.timeout(240)
def test_a_key_that_expires_is_a_need_though_no_door_is_configured_and_not_a_second_one_of_a_door(home: Home) -> None:
    home.tailnet.control.expire(timedelta(days=10))
    until(lambda: home.tailnet.homelab.status["Self"].get("KeyExpiry"), "the node is told")
    home.agent.write(f'[gate]\nsocket = "{home.tailnet.homelab.socket}"\n')
    home.agent.start()
    until(lambda: needs(home).get("gate.key", "").startswith("this node's key expires on"), "it is said", seconds=60)
    home.agent.stop()
    home.start().open()
    until(lambda: "gate.key" in needs(home), "it is said", seconds=60)
    assert "gate.funnel" not in needs(home)
    assert "key expires" in home.door["warnings"][0]["what"]


def needs(home: Home) -> dict[str, str]:
    """Return what needs the operator: the words by the check."""
    return {one["check"]: one["detail"] for one in json.loads(home.agent.run("status", "--json").stdout)["needs"]}


def test_without_a_door_to_the_internet_none_is_held_and_why_is_said(home: Home) -> None:
    home.agent.write(f'[gate]\ntailnet = true\nsocket = "{home.tailnet.homelab.socket}"\n')
    home.agent.start()
    for words in (("close", "--reason", "x"), ("auto",)):
        done = home.agent.run("gate", *words)
        assert done.returncode == Exit.FAILED
        assert "no door to the internet" in done.stderr
        assert "[gate] funnel = true" in done.stderr
    assert home.agent.run("gate", "status").returncode == 0


def test_without_a_gate_its_commands_say_how_to_have_one(agent: Agent) -> None:
    agent.start()
    for words in (("status",), ("why",), ("history",), ("close", "--reason", "x"), ("auto",)):
        done = agent.run("gate", *words)
        assert done.returncode == Exit.FAILED
        assert "[gate] funnel = true" in done.stderr
    assert agent.run("gate", "close").returncode == Exit.USAGE
    assert agent.run("gate", "close", "--for", "soon", "--reason", "x").returncode == Exit.USAGE
