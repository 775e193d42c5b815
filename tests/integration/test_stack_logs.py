"""What is logged on a machine is found in the stack's Loki, with its labels, also after one of them was away; and what
the doctor says of the stack.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from homelab_agent.core.health import State
from tests import stack as here
from tests.neighbours import images
from tests.shipping_logs import FORGED, SAID, TALKS, forge, restart_agent, say, stream, until_newer
from tests.stack import HERE, HOST, SERVICES, Stack
from tests.waiting import until

STREAMS = 60
NO_CALL = """
import socket
with socket.socket(socket.AF_UNIX) as half:
    half.connect("/run/homelab-agent/privileged.sock")
    half.sendall(bytes([0, 0, 0, 1]) + b"x")
    half.shutdown(socket.SHUT_WR)
    half.recv(1000)
"""
"""Sends the root half what is no call."""
MANY_STREAMS = """
import json, sys, time, urllib.request
values = [[str(time.time_ns()), "one of many"]]
for number in range(int(sys.argv[1])):
    body = json.dumps({"streams": [{"stream": {"job": "many", "host": str(number)}, "values": values}]}).encode()
    asked = urllib.request.Request(
        "http://127.0.0.1:3100/loki/api/v1/push", body, {"Content-Type": "application/json"}
    )
    try:
        urllib.request.urlopen(asked, timeout=20)
    except urllib.error.HTTPError as refused:
        assert refused.code == 429, refused
"""
"""Has Loki make so many streams, or as many as it takes."""
HALF = "homelab-agent-privileged.service"
UNHEARD_OF = """
for i in 1 2 3 4; do
    echo '{"level":"info","component":"unheard_of","event":"unheard_of.event"}'
    sleep 1.5
done
"""
"""So slow that it is alone in what the shipper sends at a time; of several streams Loki tells how the last one went."""
RATE, SECONDS = 20, 600
"""A noisy host logs so many lines a second; and ten minutes of that."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A machine on which the stack is up, and whose agent uses its PostgreSQL."""
    with here.running() as one:
        images.busybox(one.docker)
        one.write_agent()
        one.up()
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
        "host": HOST,
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


def test_so_is_its_root_half(stack: Stack) -> None:
    stack.write_agent(more='[log]\nformat = "json"')
    stack.machine.install(
        "homelab-agent-privileged.socket", "[Socket]\nListenStream=/run/homelab-agent/privileged.sock\n"
    )
    stack.machine.install(
        HALF,
        "[Service]\nEnvironment=PYTHONDONTWRITEBYTECODE=1\nExecStart=/usr/local/bin/homelab-agent privileged serve\n",
    )
    stack.machine.systemctl("start", "homelab-agent-privileged.socket")
    stack.machine(here.python(), "-c", NO_CALL)
    found = stack.until_found('{component="privileged"} |= "not_a_call"')
    assert found.labels["event"] == "privileged.not_a_call"
    assert found.labels["unit"] == HALF
    stack.machine.systemctl("stop", "homelab-agent-privileged.socket", HALF)
    stack.write_agent()


def test_what_others_send_in_the_agents_name_makes_no_label(stack: Stack) -> None:
    found = forge(stack, "impostor")
    assert found.text == FORGED
    assert found.labels["component"] == "system"
    assert not {"event", "run_id"} & found.labels.keys()
    assert "forged" not in stack.loki("label/component/values")["data"]


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
    assert said.labels["host"] == HOST


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
        assert found.labels["host"] == HOST
    assert stream(stack, '{job="docker"}') == {
        "job": "docker",
        "host": HOST,
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


def test_a_stream_that_loki_does_not_take_holds_up_no_other(stack: Stack) -> None:
    file = stack.machine.path(f"{HERE}/compose/loki/loki.yaml")
    text = file.read_text()
    file.write_text(text.replace("max_global_streams_per_user: 500", f"max_global_streams_per_user: {STREAMS}"))
    restart_loki(stack)
    say(stack, "before", "echo said before it takes no more")  # so it knows `system`
    stack.until_found('{component="system"} |= "said before it takes no more"')
    stack.machine(here.python(), "-c", MANY_STREAMS, str(STREAMS))
    at = time.time()
    stack.machine.path("/usr/local/bin/unheard-of").write_text(UNHEARD_OF)
    stack.machine.install(HALF, "[Service]\nType=oneshot\nExecStart=/bin/sh /usr/local/bin/unheard-of\n")
    stack.machine.systemctl("start", HALF)
    say(stack, "known", "echo said while it takes no more")
    until_newer(stack, '{component="system"} |= "said while it takes no more"', at)
    assert "unheard_of" not in stack.loki("label/component/values")["data"], "the limit was reached"
    file.write_text(text)
    restart_loki(stack)


def restart_loki(stack: Stack) -> None:
    """Have it read its configuration."""
    stack.docker("restart", "homelab-loki-1")
    until(lambda: stack.is_healthy("loki"), "Loki is back", seconds=60)


def findings(stack: Stack) -> dict[str, Any]:
    """Return what the doctor finds, by check."""
    done = stack.agent("doctor", "stack", "--json")
    return {one["check"]: one for one in json.loads(done.stdout)}


def test_the_doctor_finds_the_agent_where_grafana_looks(stack: Stack) -> None:
    found = findings(stack)
    assert found["stack.database"]["state"] == State.OK, found
    assert found["stack.volumes"]["state"] == found["stack.journal"]["state"] == State.OK
    assert found["stack.host"]["state"] == State.OK
    assert found["stack.host"]["detail"] == f"the agent and promtail call this host {HOST}"
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


def test_a_host_that_is_called_otherwise_is_found_and_follows_with_make_up(stack: Stack) -> None:
    stack.write_agent(host="Anna's cellar")
    found = findings(stack)["stack.host"]
    assert found["state"] == State.DEGRADED
    assert found["detail"].startswith(f"the agent calls this host Anna's cellar, and promtail calls it {HOST}:")
    assert found["repair"] == f"make -C {HERE} up"
    assert f"This host was {HOST} in Loki and is Anna's cellar from now on" in stack.up()
    assert findings(stack)["stack.host"]["state"] == State.OK
    say(stack, "cellar", "echo said in the cellar")
    stack.until_found('{component="system", host="Anna\'s cellar"} |= "said in the cellar"')
    stack.write_agent()
    stack.up()


def test_the_doctor_finds_a_journal_that_is_in_memory_though_its_directory_is_there(stack: Stack) -> None:
    drop_in = stack.machine.path("/etc/systemd/journald.conf.d/volatile.conf")
    drop_in.write_text("[Journal]\nStorage=volatile\n")
    stack.machine.systemctl("restart", "systemd-journald")
    found = findings(stack)["stack.journal"]
    refused = stack.make("up", SERVICE=SERVICES)
    settings = stack.machine.path(f"{HERE}/compose/.env")
    before = settings.read_text()
    settings.write_text(f"{before}HOMELAB_JOURNAL=/run/log/journal\n")
    stack.up()
    as_meant = findings(stack)["stack.journal"]
    say(stack, "memory", "echo said in memory")
    stack.until_found('{component="system"} |= "said in memory"')
    settings.write_text(before)
    drop_in.unlink()
    stack.machine.systemctl("restart", "systemd-journald")
    stack.machine("journalctl", "--flush")
    stack.machine("logger", "on the disk again")
    stack.machine("journalctl", "--sync")
    stack.up()
    assert (as_meant["state"], as_meant["detail"]) == (State.OK, "/run/log/journal")
    assert found["state"] == State.FAILED
    assert "nothing new comes to /var/log/journal" in found["detail"]
    assert "Storage=persistent" in found["repair"]
    assert refused.returncode != 0
    assert "Nothing new comes to /var/log/journal" in refused.stderr
    assert findings(stack)["stack.journal"]["detail"] == "/var/log/journal"


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
