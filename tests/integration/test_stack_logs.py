"""What is logged on a machine is found in the stack's Loki, with its labels, also after one of them was away; and what
the doctor says of the stack.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from homelab_agent.core.health import State
from tests import stack as here
from tests.neighbours import images
from tests.shipping_logs import SAID, TALKS, restart_agent, say, stream, until_newer
from tests.stack import HERE, SERVICES, Stack
from tests.waiting import until

RATE, SECONDS = 20, 600
"""A noisy host logs so many lines a second; and ten minutes of that."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A machine on which the stack is up, and whose agent uses its PostgreSQL."""
    with here.running() as one:
        images.busybox(one.docker)
        one.up()
        one.write_agent()
        restart_agent(one)
        until(
            lambda: one.sql("SELECT to_regclass('homelab.rollup') IS NOT NULL") == "t", "it has its tables", seconds=60
        )
        yield one


def test_an_event_of_the_agents_is_found_with_its_fields(stack: Stack) -> None:
    found = until_newer(stack, '{component="gate"} | json', restart_agent(stack))
    event = json.loads(found.text)
    assert event["component"] == "gate"
    assert found.labels["event"] == found.labels["event_extracted"] == event["event"]
    assert found.labels["unit"] == "homelab-agent.service"
    assert stream(stack, '{component="gate"}') == {
        "job": "systemd-journal",
        "host": stack.machine.hostname,
        "component": "gate",
    }


def test_what_happens_while_the_shipper_is_down_is_found_once_when_it_is_back(stack: Stack) -> None:
    stack.docker("stop", "homelab-promtail-1")
    at = restart_agent(stack)
    until(
        lambda: stack.machine.journal("-u", "homelab-agent", "HOMELAB_COMPONENT=gate", f"--since=@{at:.6f}"),
        "it says so",
    )
    stack.docker("start", "homelab-promtail-1")
    found = until_newer(stack, '{component="gate"} | json', at)
    same = [one for one in stack.lines('{component="gate"}') if one.nanoseconds == found.nanoseconds]
    assert len(same) == 1


def test_an_agent_without_journalds_protocol_is_told_apart_all_the_same(stack: Stack) -> None:
    stack.write_agent(more='[log]\nformat = "json"')
    found = until_newer(stack, '{component="gate"} | json', restart_agent(stack))
    assert found.labels["event"] == json.loads(found.text)["event"]
    stack.write_agent()
    restart_agent(stack)


def test_lines_of_others_arrive_as_they_are(stack: Stack) -> None:
    theirs = '{"level":"info","component":"gate","event":"gate.opened"}'
    broken = '{"level":"info","component":"gate", and then'
    say(stack, "others", f"echo '{theirs}'; echo '{broken}'; echo 'plain words'")
    lines = [theirs, broken, "plain words"]

    def found() -> list[str]:  # systemd says something about the unit, too
        query = '{component="system"} | unit="others.service"'
        return [one.text for one in stack.lines(query) if one.text in lines]

    until(lambda: found() == lines, "all three are there, in order")
    said = stack.until_found('{component="system"} | unit="others.service" |= "plain words"')
    assert said.labels["priority"] == "info"
    assert said.labels["host"] == stack.machine.hostname


def test_containers_lines_arrive_by_the_journal_and_by_dockers_files(stack: Stack) -> None:
    query = '{component="container"} | container="homelab-postgres-1" |= "ready to accept connections"'
    assert stack.until_found(query).labels["job"] == "systemd-journal"
    ids = {
        name: stack.docker("run", "--detach", "--name", name, *options, "busybox", "sh", "-c", TALKS)
        for name, options in {"plain": (), "tagged": ("--log-opt", "tag={{.Name}}")}.items()
    }
    for name in (ids["plain"][:12], "tagged"):
        found = stack.until_found(f'{{job="docker"}} | container="{name}" |= "more"', seconds=40)
        assert [one.text for one in stack.lines(f'{{job="docker"}} | container="{name}"')] == SAID
        assert found.labels["host"] == stack.machine.hostname
    assert stream(stack, '{job="docker"}') == {
        "job": "docker",
        "host": stack.machine.hostname,
        "component": "container",
    }
    stack.docker("rm", "--force", *ids)


def test_ten_minutes_without_loki_lose_nothing(stack: Stack) -> None:
    stack.docker("stop", "homelab-loki-1")
    lines = RATE * SECONDS
    say(stack, "flood", f"seq -f 'flood %.0f' {lines}")
    say(stack, "after", "echo after the flood")
    stack.docker("start", "homelab-loki-1")
    until(lambda: stack.is_healthy("loki"), "Loki is back", seconds=60)
    stack.until_found('{component="system"} |= "after the flood"', seconds=60)
    flood = '{component="system"} |~ "^flood [0-9]+$"'
    until(lambda: stack.count(flood) >= lines, "all are there", seconds=60)
    assert stack.count(flood) == lines
    assert stack.texts(flood) == {f"flood {number}" for number in range(1, lines + 1)}


def findings(stack: Stack) -> dict[str, Any]:
    """Return what the doctor finds, by check."""
    done = stack.agent("doctor", "stack", "--json")
    return {one["check"]: one for one in json.loads(done.stdout)}


def test_the_doctor_finds_the_agent_where_grafana_looks(stack: Stack) -> None:
    found = findings(stack)
    assert found["stack.database"]["state"] == State.OK, found
    assert found["stack.volumes"]["state"] == found["stack.journal"]["state"] == State.OK
    assert found["stack.services"]["state"] == State.FAILED
    assert found["stack.services"]["detail"] == "grafana is not there"
    assert found["stack.ports"]["state"] == State.DEGRADED, "Debian 12's Docker"
    assert "127.0.0.1:3001, 127.0.0.1:3100, 127.0.0.1:5432; but Docker 20.10" in found["stack.ports"]["detail"]
    assert not [line for line in stack.agent("doctor", "metrics", "--json").stdout.splitlines() if "stack." in line]


def test_the_doctor_finds_an_agent_that_writes_elsewhere(stack: Stack) -> None:
    stack.write_agent(database='url = "embedded"')
    found = findings(stack)["stack.database"]
    stack.write_agent()
    assert found["state"] == State.DEGRADED
    assert found["repair"].startswith("homelab-agent db move --to postgresql://homelab@127.0.0.1:5432/homelab")
    assert found["repair"].endswith(f"--password file:{HERE}/compose/secrets/for_the_agent")


def test_the_doctor_finds_what_is_not_as_the_file_says(stack: Stack) -> None:
    file = stack.machine.path(f"{HERE}/compose/docker-compose.yml")
    text = file.read_text()
    grafana = text[text.index("  grafana:\n") : text.index("  promtail:\n")]
    file.write_text(text.replace(grafana, ""))
    assert findings(stack)["stack.services"]["state"] == State.OK
    stack.docker("stop", "homelab-promtail-1")
    assert findings(stack)["stack.services"]["detail"] == "promtail is exited"
    stack.docker("start", "homelab-promtail-1")
    until(lambda: stack.is_healthy("promtail"), "it is well", seconds=60)
    file.write_text(text.replace(grafana, "").replace("pids_limit: 128", "pids_limit: 127"))
    changed = findings(stack)["stack.services"]
    assert changed["state"] == State.DEGRADED
    assert changed["detail"].endswith("promtail: the file was changed since it was started")
    assert changed["repair"] == f"make -C {HERE} up"
    file.write_text(text.replace(grafana, "").replace("127.0.0.1:3100", "0.0.0.0:3100"))
    stack.up()
    open_ = findings(stack)["stack.ports"]
    assert open_["state"] == State.FAILED
    assert "0.0.0.0:3100" in open_["detail"]
    file.write_text(text)
    stack.up()


def test_a_host_at_the_edge_ships_to_another_hosts_loki(stack: Stack) -> None:
    refused = stack.make("up", PROFILE="edge")
    assert "LOKI_URL=http://HOST:3100" in refused.stderr
    done = stack.make("up", PROFILE="edge", LOKI_URL="http://loki:3100/")
    assert done.returncode == 0, done.stderr
    running = stack.docker("ps", "--format", "{{.Names}}").split()
    assert "homelab-promtail-edge-1" in running
    assert "homelab-promtail-1" not in running
    say(stack, "edge", "echo said at the edge")
    stack.until_found('{component="system"} |= "said at the edge"')
    assert stack.make("up", PROFILE="promtail", SERVICE=SERVICES).returncode == 0
    assert "homelab-promtail-edge-1" not in stack.docker("ps", "--format", "{{.Names}}").split()
