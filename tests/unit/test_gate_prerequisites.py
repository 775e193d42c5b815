"""What a door needs: each thing that is missing is told with what mends it, and blocks; one node's real values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from homelab_agent.core.health import State
from homelab_agent.gate import node_key, prerequisites, version
from homelab_agent.gate.prerequisites import Door
from homelab_agent.gate.reading import Entry, Reading, ServeConfig
from homelab_agent.gate.settings import GateSettings

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
NAME = "homelab.tail-test.ts.net"
PORTS = "https://tailscale.com/cap/funnel-ports?ports=443,8443,10000"
GOOD = Reading(
    version="1.102.3-t68b9b4bb6-gaf2e3fb6f",
    backend="Running",
    name=NAME,
    capabilities=frozenset({"https", "funnel", PORTS, "ssh"}),
    cert_domains=(NAME,),
    key_expiry=NOW + timedelta(days=90),
    shields_up=False,
    operator="homelab-agent",
    config=ServeConfig(),
)
SAFE = GateSettings().safe_versions
DOOR = Door(8443, is_funnel=True, user="homelab-agent", safe_versions=SAFE)
TARGET = "http://127.0.0.1:8085"
TAILNET = replace(DOOR, port=443, is_funnel=False)


def told(reading: Reading, door: Door = DOOR) -> list[tuple[str, str]]:
    """Return what blocks and its repair."""
    return [(one.what, one.repair) for one in prerequisites.obstacles(reading, door, NOW) if one.blocks]


def test_where_nothing_is_missing_nothing_is_told() -> None:
    assert prerequisites.obstacles(GOOD, DOOR, NOW) == []
    assert prerequisites.obstacles(replace(GOOD, key_expiry=None), DOOR, NOW) == []
    assert prerequisites.obstacles(replace(GOOD, operator=""), replace(DOOR, user="root"), NOW) == []


@pytest.mark.parametrize(
    ("backend", "what", "repair"),
    [
        ("NeedsLogin", "this node is logged out of its tailnet", "sudo tailscale up"),
        ("Stopped", "Tailscale is stopped", "sudo tailscale up"),
        (
            "NeedsMachineAuth",
            "this node waits to be approved",
            "Approve it: https://login.tailscale.com/admin/machines",
        ),
        ("NoState", "tailscaled is starting", "If it stays so: journalctl -u tailscaled -n 50"),
        ("Starting", "tailscaled is starting", "If it stays so: journalctl -u tailscaled -n 50"),
        ("InUseOtherUser", "tailscaled is in the state InUseOtherUser", "tailscale status"),
        ("", "tailscaled is in the state ", "tailscale status"),
    ],
)
def test_a_node_that_is_not_connected_is_told_alone(backend: str, what: str, repair: str) -> None:
    for key_expiry in (None, NOW + timedelta(days=1)):
        bare = replace(
            GOOD, backend=backend, capabilities=frozenset(), cert_domains=(), version="1.90.0", key_expiry=key_expiry
        )
        assert told(bare) == told(bare, TAILNET) == [(what, repair)]


def test_a_key_that_has_expired_is_told_as_such() -> None:
    gone = replace(GOOD, backend="NeedsLogin", key_expiry=NOW - timedelta(seconds=1))
    assert told(gone) == [("this node's key has expired", "sudo tailscale up")]


@pytest.mark.parametrize(
    ("text", "is_safe"),
    [
        ("1.98.8", False),
        ("1.98.9", True),
        ("1.98.10-t1-g2", True),
        ("1.99.0", False),
        ("1.100.0", False),
        ("1.100.9", False),
        ("1.101.5", False),
        ("1.102.0", True),
        ("1.102.3-t68b9b4bb6-gaf2e3fb6f", True),
        ("1.103.12-dev20261101-t1", True),
        ("2.0.0", True),
        ("1.96.4", False),
        ("0.1", False),
        ("", False),
        ("unstable", False),
        ("-1.102.0", False),
    ],
)
def test_a_door_is_opened_only_with_a_version_that_is_known_to_be_safe(
    text: str,
    is_safe: bool,  # noqa: FBT001
) -> None:
    for door in (DOOR, TAILNET):
        found = told(replace(GOOD, version=text), door)
        assert bool(found) != is_safe
        if not is_safe:
            what = f"tailscaled {text} is not among the versions known to be safe (>=1.98.9, <1.99 or >=1.102)"
            assert found == [(what, "sudo tailscale update")]


def test_what_is_safe_is_configured() -> None:
    assert version.is_in((1, 100, 1), ["<1.50", ">=1.100.1, <1.100.2"])
    assert not version.is_in((1, 100, 2), ["<1.50", ">=1.100.1,<1.100.2"])
    assert version.is_in((1, 49), ["< 1.50"])
    assert not version.is_in((), [">=0"])


SHIELDS = ("this node takes no connections (shields-up)", "sudo tailscale set --shields-up=false")
OPERATOR = (
    "the agent's user homelab-agent is not Tailscale's operator on this host",
    "sudo homelab-agent gate operator homelab-agent",
)
TAKEN = (f"{OPERATOR[0]}: that is ann, whose place it would take", OPERATOR[1])
CERTIFICATE = (
    "the tailnet gives this node no certificate",
    "Enable MagicDNS and HTTPS certificates: https://login.tailscale.com/admin/dns",
)
FUNNEL = (
    "the tailnet's policy does not let this node use Funnel",
    (
        'Add {"target": ["autogroup:member"], "attr": ["funnel"]} (for a tagged node its tag) to "nodeAttrs": '
        "https://login.tailscale.com/admin/acls"
    ),
)


def without(*names: str, and_with: Iterable[str] = ()) -> Reading:
    return replace(GOOD, capabilities=GOOD.capabilities - {*names} | {*and_with})


@pytest.mark.parametrize(
    ("reading", "expected", "is_for_funnel_alone"),
    [
        (replace(GOOD, shields_up=True), SHIELDS, False),
        (replace(GOOD, operator=""), OPERATOR, False),
        (replace(GOOD, operator="ann"), TAKEN, False),
        (replace(GOOD, cert_domains=()), CERTIFICATE, False),
        (replace(GOOD, cert_domains=("old.tail-test.ts.net",)), CERTIFICATE, False),
        (without("https"), CERTIFICATE, False),
        (without("funnel"), FUNNEL, True),
        (without("funnel", PORTS), FUNNEL, True),
    ],
)
def test_each_thing_that_is_missing_is_told_with_what_mends_it(
    reading: Reading,
    expected: tuple[str, str],
    is_for_funnel_alone: bool,  # noqa: FBT001
) -> None:
    assert told(reading) == [expected]
    assert told(reading, TAILNET) == ([] if is_for_funnel_alone else [expected])


BASE = "https://tailscale.com/cap/funnel-ports"


@pytest.mark.parametrize(
    ("capabilities", "allowed"),
    [
        ([f"{BASE}?ports=443,8443,10000"], None),
        ([f"{BASE}?ports=443,8000-9000"], None),
        ([f"{BASE}?ports=443", f"{BASE}?ports=8443"], None),
        ([f"{BASE}?ports=443,10000"], "443, 10000"),
        ([f"{BASE}?ports=8444-9000,443"], "8444-9000, 443"),
        ([f"{BASE}?ports=8443-"], "none"),
        ([f"{BASE}?ports="], "none"),
        ([f"{BASE}?ports=all"], "none"),
        ([BASE], "none"),
        ([f"{BASE}-other?ports=8443"], "none"),
        ([f"http{BASE[5:]}?ports=8443"], "none"),
        ([], "none"),
    ],
)
def test_the_port_itself_must_be_allowed(capabilities: list[str], allowed: str | None) -> None:
    reading = without(PORTS, and_with=capabilities)
    assert told(reading, TAILNET) == []
    if allowed is None:
        assert told(reading) == []
        return
    [(what, repair)] = told(reading)
    assert what == f"the tailnet's policy does not allow Funnel on port 8443, only on {allowed}"
    port = allowed.split(", ")[0].split("-")[0]
    assert repair == (
        "https://login.tailscale.com/admin/acls" if allowed == "none" else f"homelab-agent config set gate.port {port}"
    )


def test_port_443_must_be_allowed_too_for_the_command_asks_for_it() -> None:
    reading = without(PORTS, and_with=[f"{BASE}?ports=8000-9000"])
    [(what, repair)] = told(reading)
    assert "does not allow Funnel on port 443, which Tailscale's command asks for" in what
    assert repair == "https://login.tailscale.com/admin/acls"
    assert told(reading, TAILNET) == []


@pytest.mark.parametrize(
    ("forward", "is_told"),
    [("127.0.0.1:8085", True), ("localhost:8085", True), ("127.0.0.1:22", False), ("10.0.0.1:8085", False)],
)
def test_who_could_come_in_unmarked_is_told(forward: str, *, is_told: bool) -> None:
    raw = {"TCP": {"10000": {"TCPForward": forward, "TerminateTLS": "homelab.tail-test.ts.net"}}}
    found = prerequisites.bypasses(
        ServeConfig({**raw, "AllowFunnel": {"homelab.tail-test.ts.net:10000": True}}), TARGET
    )
    assert bool(found) == is_told
    if found:
        assert "port 10000 leads for the internet to the agent as bare TCP" in found[0].what
        assert found[0].repair == "sudo tailscale serve --tcp=10000 off"
    assert len(prerequisites.bypasses(ServeConfig({"Foreground": {"one": raw}}), TARGET)) == is_told
    assert prerequisites.bypasses(ServeConfig({"TCP": {"443": {"HTTPS": True}}}), TARGET) == []


def test_a_key_that_expires_soon_is_a_warning_and_keeps_no_door_shut() -> None:
    for left, is_told in (
        (timedelta(days=14), False),
        (timedelta(days=13, hours=23), True),
        (-timedelta(days=9), True),
    ):
        expiry = NOW + left
        found = prerequisites.obstacles(replace(GOOD, key_expiry=expiry), DOOR, NOW)
        assert [one.blocks for one in found] == [False] * is_told
        if is_told:
            until = f"{expiry:%Y-%m-%d %H:%M} UTC"
            assert found[0].what == f"this node's key expires on {until}; then nobody reaches it through the tailnet"
            assert "sudo tailscale up --force-reauth" in found[0].repair


@pytest.mark.parametrize(
    ("change", "state", "words"),
    [
        ({"key_expiry": None}, State.OK, "this node's key does not expire"),
        ({}, State.OK, "this node's key expires on 20"),
        ({"key_expiry": NOW + timedelta(days=13)}, State.DEGRADED, "then nobody reaches it through the tailnet"),
        ({"key_expiry": NOW + timedelta(days=13), "backend": "Stopped"}, State.DEGRADED, "this node's key expires on"),
        ({"key_expiry": NOW, "backend": "NeedsLogin"}, State.FAILED, "this node's key has expired"),
        ({"key_expiry": None, "backend": "Stopped"}, State.NOT_AVAILABLE, "Tailscale is stopped"),
        ({"key_expiry": None, "backend": "NeedsLogin"}, State.NOT_AVAILABLE, "logged out"),
    ],
)
def test_the_nodes_key_is_judged_whatever_the_doors_do(change: dict[str, Any], state: State, words: str) -> None:
    found = node_key.judged(replace(GOOD, **change), NOW)
    assert found.state is state
    assert words in found.detail
    assert bool(found.repair) is (state in {State.DEGRADED, State.FAILED})


def test_everything_that_is_missing_is_told_what_blocks_first() -> None:
    bare = replace(
        GOOD,
        version="1.98.8",
        shields_up=True,
        operator="ann",
        capabilities=frozenset(),
        cert_domains=(),
        key_expiry=NOW,
    )
    found = prerequisites.obstacles(bare, DOOR, NOW)
    assert len(found) == 6
    assert [one.blocks for one in found] == [True] * 5 + [False]
    assert all(one.what and one.repair for one in found)


def test_whose_a_port_is_is_told_with_what_frees_it() -> None:
    here = Entry("", NAME, 8443, "http://127.0.0.1:3000", is_funnel=True)
    background = prerequisites.conflict([here, replace(here, session="abc")], 8443)
    assert background.what == "port 8443 is taken, also when no program runs: http://127.0.0.1:3000 for the internet"
    assert background.repair == "sudo tailscale serve --https=8443 off"
    ssh = prerequisites.conflict([replace(here, host="", target="tcp://127.0.0.1:22", is_funnel=False)], 8443)
    assert ssh.what == "port 8443 is taken, also when no program runs: tcp://127.0.0.1:22 for the tailnet"
    assert ssh.repair == "sudo tailscale serve --tcp=8443 off"
    program = prerequisites.conflict([replace(here, session="abc")], 8443)
    assert program.what == "another program publishes on port 8443: http://127.0.0.1:3000 for the internet"
    assert program.repair == "End the program that does: pgrep -af 'tailscale.*8443'"
    assert background.blocks
    assert program.blocks
