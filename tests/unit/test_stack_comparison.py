"""What `doctor stack` concludes of what Docker and Compose say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from homelab_agent.core.health import State
from homelab_agent.stack import comparison, running, wanted
from homelab_agent.stack.running import Container
from homelab_agent.stack.wanted import Service

FILE = "/srv/homelab/compose/docker-compose.yml"
LOKI = Service("loki", "grafana/loki:3.7.7", frozenset({"127.0.0.1:3100"}), frozenset({"homelab_loki"}), "abc")
RUNS = Container(
    name="homelab-loki-1",
    service="loki",
    image=LOKI.image,
    status="running",
    health="healthy",
    ports=LOKI.ports,
    volumes=LOKI.volumes,
    digest="abc",
    file=FILE,
    directory="/srv/homelab/compose",
)


def test_what_compose_resolves_is_read() -> None:
    config = {
        "services": {
            "loki": {
                "image": "grafana/loki:3.7.7",
                "ports": [{"host_ip": "127.0.0.1", "published": "3100", "target": 3100}, {"published": "80"}],
                "volumes": [
                    {"type": "volume", "source": "data", "target": "/loki"},
                    {"type": "bind", "source": "/etc", "target": "/etc"},
                ],
            }
        },
        "volumes": {"data": {"name": "homelab_loki", "external": True}},
    }
    [found] = wanted.services(config, "loki abc\n").values()
    assert found == replace(LOKI, ports=frozenset({"127.0.0.1:3100", "0.0.0.0:80"}))


def test_what_docker_tells_is_read_and_a_one_off_is_no_service() -> None:
    labels = {
        "com.docker.compose.service": "loki",
        "com.docker.compose.config-hash": "abc",
        "com.docker.compose.project.config_files": FILE,
        "com.docker.compose.project.working_dir": "/srv/homelab/compose",
    }
    said: dict[str, Any] = {
        "Name": "/homelab-loki-1",
        "Config": {"Labels": labels, "Image": LOKI.image},
        "State": {"Status": "running", "Health": {"Status": "healthy"}},
        "HostConfig": {"PortBindings": {"3100/tcp": [{"HostIp": "127.0.0.1", "HostPort": "3100"}], "1/tcp": None}},
        "Mounts": [{"Type": "volume", "Name": "homelab_loki"}, {"Type": "bind", "Source": "/etc"}],
    }
    shipper = json.loads(json.dumps(said))
    shipper["Config"] |= {"Env": ["PATH=/bin", "HOMELAB_HOST=nas=1"]}
    shipper["Mounts"] += [{"Type": "bind", "Source": "/run/log/journal", "Destination": "/var/log/journal"}]
    assert running.containers([shipper]) == [replace(RUNS, host="nas=1", journal="/run/log/journal")]
    once = json.loads(json.dumps(said))
    once["Config"]["Labels"]["com.docker.compose.oneoff"] = "True"
    assert running.containers([said, once]) == [RUNS]


@pytest.mark.parametrize(
    ("found", "state", "words"),
    [
        ([RUNS], State.OK, "loki 3.7.7"),
        ([replace(RUNS, health="")], State.OK, "loki 3.7.7"),
        ([], State.FAILED, "loki is not there"),
        ([replace(RUNS, health="starting")], State.DEGRADED, "still starting: loki"),
        ([replace(RUNS, health="unhealthy")], State.FAILED, "loki is unhealthy"),
        ([replace(RUNS, status="exited", health="unhealthy")], State.FAILED, "loki is exited"),
        (
            [replace(RUNS, image="grafana/loki:2.9.0")],
            State.DEGRADED,
            "grafana/loki:2.9.0 instead of grafana/loki:3.7.7",
        ),
        ([replace(RUNS, ports=frozenset())], State.DEGRADED, "loki: ports none"),
        ([replace(RUNS, volumes=frozenset({"other"}))], State.DEGRADED, "loki: volumes other"),
        ([replace(RUNS, digest="def")], State.DEGRADED, "loki: the file was changed since it was started"),
        ([RUNS, replace(RUNS, service="alloy")], State.DEGRADED, "alloy runs, which the profile has not"),
        ([RUNS, replace(RUNS, service="alloy", status="exited")], State.OK, "loki 3.7.7"),
    ],
)
def test_a_service_is_held_against_the_file(found: list[Container], state: State, words: str) -> None:
    finding = comparison.of_services({"loki": LOKI}, found, FILE)
    assert (finding.state, words in finding.detail) == (state, True), finding
    assert bool(finding.repair) == (state != State.OK)
    assert not finding.repair or finding.repair.startswith(("make -C /srv/homelab ", "homelab-agent doctor stack"))


@pytest.mark.parametrize(
    ("docker", "state"),
    [("20.10.24+dfsg1", State.DEGRADED), ("27.5.1", State.DEGRADED), ("28.0.0", State.OK), ("", State.OK)],
)
def test_before_docker_28_ports_of_loopback_can_be_reached(docker: str, state: State) -> None:
    assert comparison.of_ports({"loki": LOKI}, [RUNS], docker, FILE).state == state


@given(st.ip_addresses())
def test_a_port_of_any_other_address_is_open(address: Any) -> None:
    assume(address.version == 4 or address.ipv4_mapped is None)  # what those are is another question
    shown = f"[{address}]" if address.version == 6 else str(address)
    found = replace(RUNS, ports=frozenset({f"{shown}:3100"}))
    state = comparison.of_ports({"loki": LOKI}, [found], "28.1.0", FILE).state
    assert (state == State.OK) == address.is_loopback


def test_a_shipper_alone_publishes_nothing() -> None:
    edge = replace(LOKI, name="promtail-edge", ports=frozenset())
    assert comparison.of_ports({"promtail-edge": edge}, [], "20.10", FILE).detail == "no port"


def test_volumes_and_names() -> None:
    assert comparison.of_volumes({"loki": LOKI}, ["homelab_loki", "other"], FILE).state == State.OK
    assert comparison.of_volumes({"loki": LOKI}, ["other"], FILE).detail == "missing: homelab_loki"
    assert comparison.of_host("nas", replace(RUNS, host="nas")).state == State.OK
    for other in ("", "pi"):
        named = comparison.of_host("nas", replace(RUNS, service="promtail", host=other))
        assert (named.state, named.repair) == (State.DEGRADED, "make -C /srv/homelab up")


@pytest.mark.parametrize(
    ("journal", "there", "volatile", "state"),
    [
        ("/var/log/journal", True, False, State.OK),
        ("/var/log/journal", True, True, State.FAILED),
        ("/var/log/journal", False, True, State.FAILED),
        ("/run/log/journal", True, True, State.OK),  # HOMELAB_JOURNAL: it is meant so
        ("/mnt/journal", False, False, State.FAILED),
    ],
)
def test_the_journal_is_where_the_shipper_reads_it(journal: str, *, there: bool, volatile: bool, state: State) -> None:
    finding = comparison.of_journal(Path(journal), there=there, volatile=volatile)
    assert (finding.state, "Storage=persistent" in finding.repair) == (state, state != State.OK)


def test_agent_and_grafana_use_the_same_database_or_not() -> None:
    assert comparison.of_databases("7/homelab", "7/homelab", shown="there", move="move").state == State.OK
    elsewhere = comparison.of_databases("7/homelab", "7/other", shown="there", move="move")
    assert (elsewhere.state, elsewhere.repair) == (State.DEGRADED, "move")
