"""What can befall a door, with the real tailscaled: its state, cause and repair, and that it opens again by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import pytest

from homelab_agent.core.supervisor.looplag import LATE_SECONDS
from tests.agent import Agent, running
from tests.gate_home import WEBHOOK, Home
from tests.neighbours.disk import Disks
from tests.neighbours.tailnet import Tailnet
from tests.neighbours.tailnet_world import FUNNEL, HTTPS, PORTS
from tests.neighbours.visitors import Connection
from tests.processes import freeze, thaw
from tests.waiting import until

Does = Callable[[Tailnet], object]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is broken, how it is mended, and what the door says meanwhile."""

    name: str
    breaks: Does
    mends: Does
    overlay: str
    why: str
    repair: str


def _up(tailnet: Tailnet) -> None:
    tailnet.homelab.start()
    tailnet.homelab.until_running()


def _allow(tailnet: Tailnet) -> None:
    tailnet.control.restore()


FAULTS = [
    Fault("killed", lambda t: t.homelab.kill(), _up, "unknown", "tailscaled", "systemctl"),
    Fault("stopped", lambda t: t.homelab.stop(), _up, "unknown", "tailscaled", "systemctl"),
    Fault("frozen", lambda t: t.homelab.freeze(), lambda t: t.homelab.thaw(), "unknown", "no answer", "systemctl"),
    Fault("down", lambda t: t.homelab.down(), lambda t: t.homelab.up(), "blocked", "stopped", "tailscale up"),
    Fault("out", lambda t: t.homelab.log_out(), lambda t: t.homelab.log_in(), "blocked", "logged out", "tailscale up"),
    Fault("no funnel", lambda t: t.control.withdraw(FUNNEL), _allow, "blocked", "Funnel", "nodeAttrs"),
    Fault("no https", lambda t: t.control.withdraw(HTTPS), _allow, "blocked", "certificate", "dns"),
    Fault("no ports", lambda t: t.control.withdraw(PORTS), _allow, "blocked", "port 8443", "acls"),
    Fault("other port", lambda t: t.control.allow_ports(443), _allow, "blocked", "only on 443", "443"),
]


@pytest.fixture
def home(tailnet: Tailnet, agent: Agent, open_directory: Path) -> Home:
    return Home(tailnet, agent, open_directory)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_shuts_it_says_why_and_what_mends_it_and_then_it_opens_by_itself(home: Home, fault: Fault) -> None:
    home.start().open()
    fault.breaks(home.tailnet)
    told = home.becomes_shut(fault.overlay)
    assert fault.why in told["why"]
    assert fault.repair in told["repair"]
    home.agent.until("gate.funnel", "failed")
    assert home.agent.ready(), "the page does not suffer by it"
    if fault.name != "frozen":
        assert home.refused()
    fault.mends(home.tailnet)
    home.open()
    assert home.ping() == 200


def test_shields_that_are_up_keep_it_shut(home: Home) -> None:
    home.tailnet.homelab.shield()
    told = home.start().becomes("closed", "blocked")
    assert "shields" in told["why"]
    assert home.refused()


def test_an_old_connection_of_a_visitor_ends_with_the_door(home: Home) -> None:
    home.start().open()
    with home.tailnet.public.connect() as old:
        assert old.ask("GET", WEBHOOK).status == 405
        assert home.agent.run("gate", "close", "--reason", "test").returncode == 0
        assert answered(old) in {0, 404}
        assert home.agent.run("gate", "auto").returncode == 0
        home.open()
        assert answered(old) in {0, 404, 405}, "the next session may take it up again, behind an open door"
    assert home.ping() == 200


def answered(connection: Connection) -> int:
    """Return the status of an answer, 0 where the connection is no more."""
    try:
        return connection.ask("GET", WEBHOOK).status
    except (OSError, HTTPException):
        return 0


@pytest.mark.timeout(240)
def test_while_nothing_can_be_promised_it_is_shut(tailnet: Tailnet, disk: Disks, open_directory: Path) -> None:
    small = disk(megabytes=96)
    with running(small.point / "agent") as agent:
        home = Home(tailnet, agent, open_directory).start().open()
        until(agent.connected, "PostgreSQL is there", seconds=60)
        small.fill()
        promise = ("jobs", "run", "--detach", "database.partitions")
        until(lambda: agent.run(*promise).returncode, "nothing is promised", seconds=60)
        until(home.refused, "nobody is let in", seconds=60)
        assert "state" in home.becomes_shut()["why"]
        small.free()
        home.open()
        assert home.ping() == 200
        _, shut = home.openings()
        assert "state" in shut["checks"]
        assert not shut["closed_why"].startswith("not ready"), "the write that failed has shut it, not three looks"


def test_an_agent_that_was_held_up_lets_nobody_in_until_it_has_been_well_for_a_while(home: Home) -> None:
    home.start().open()
    freeze(home.agent.pid)
    begun = time.monotonic()
    until(lambda: time.monotonic() - begun > LATE_SECONDS + 0.5, "it is held up for long enough")
    thaw(home.agent.pid)
    until(lambda: len(home.openings()) == 2, "it is opened anew", seconds=90)
    _, shut = home.openings()
    assert shut["checks"] == "event_loop"
    assert shut["closed_why"].startswith("event_loop: the agent was held up for")
    home.open()


def test_who_comes_through_the_tailnet_reads_the_page_only_after_a_log_in(home: Home) -> None:
    home.start("tailnet = true\n")
    until(lambda: home.tailnet.laptop.reaches(443), "the page is in the tailnet", seconds=60)
    for visitor in (home.tailnet.laptop, home.tailnet.server):
        assert visitor.ask("GET", "/api/health", port=443).status == 401
        assert visitor.ask("GET", "/api/health/live", port=443).status == 200
    assert {(one.port, one.is_public) for one in home.tailnet.homelab.entries} >= {(443, False)}


def test_the_way_from_the_internet_may_be_dead_though_all_is_well_here(home: Home) -> None:
    home.agent.env["SSL_CERT_FILE"] = str(home.tailnet.ca)
    home.start(f'resolver = "{home.tailnet.resolver}"\npath_repairs = 0\n').open()
    home.tailnet.relay.close()
    assert "internet does not reach" in home.becomes("degraded")["why"]
    assert home.agent.finding("gate.funnel")["state"] == "degraded"
    home.tailnet.relay.carry()
    home.open()


def test_a_dead_way_is_repaired_by_opening_anew_some_times_and_then_the_operator_is_told(home: Home) -> None:
    home.agent.env["SSL_CERT_FILE"] = str(home.tailnet.ca)
    home.start(f'resolver = "{home.tailnet.resolver}"\npath_repairs = 2\npath_repair_wait = 1\n').open()
    home.tailnet.relay.close()
    in_vain = "it was opened anew 2 times in vain"
    told = lambda: in_vain in home.agent.finding("gate.funnel")["detail"]  # noqa: E731
    until(told, "the operator is told", seconds=90)
    assert home.agent.finding("gate.funnel")["repair"] == "homelab-agent doctor gate"
    assert in_vain in home.agent.log.read_text()
    lasts, *shut = home.openings()
    assert (lasts["closed_at"], home.door["phase"]) == (None, "degraded"), "it stays open: who gets through is let in"
    assert ["it is opened anew" in one["closed_why"] for one in shut] == [True, True]
    home.tailnet.relay.carry()
    home.open()
    assert home.ping() == 200


def test_who_could_come_in_as_bare_tcp_is_told(home: Home) -> None:
    forward = f"tcp://127.0.0.1:{home.agent.port}"
    assert home.tailnet.homelab.run("funnel", "--bg", "--tcp=10000", forward).returncode == 0
    home.start().open()
    until(lambda: home.agent.finding("gate.funnel")["state"] == "degraded", "it is told", seconds=30)
    finding = home.agent.finding("gate.funnel")
    assert "port 10000 leads for the internet to the agent as bare TCP" in finding["detail"]
    assert finding["repair"] == "sudo tailscale serve --tcp=10000 off"
