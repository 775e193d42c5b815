"""Alloy ships what Promtail ships, with the same labels, and goes on where Promtail has stopped; what either loses when
it is killed while Loki is away.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests import stack as here
from tests.neighbours import images
from tests.shipping_logs import SAID, TALKS, forge, restart_agent, say, until_newer
from tests.stack import HOST, Stack
from tests.waiting import until

SHIPPERS = ("promtail", "alloy")
JOBS = {"systemd-journal", "docker"}
LABELS = {"job", "host", "component"}
OTHERS = [
    '{"level":"info","component":"gate","event":"gate.opened"}',
    '{"level":"info","component":"gate", and then',
    "plain words",
]
"""What another unit says, as if it were the agent, and not."""
CONTAINERS = {"plain": (), "tagged": ("--log-opt", "tag={{.Name}}"), "journald": ("--log-driver", "journald")}
"""Of two Docker keeps the lines in files, and of one of these it has not the name."""
ABSENT = 12_000
"""What a noisy host logs in ten minutes, in lines."""
KILOBYTES = 2_000
"""Lines of a kilobyte each, more than a shipper is to hold."""
VOLUME = "/var/lib/docker/volumes/homelab_promtail/_data"
POSITIONS = {"promtail": "positions.yaml", "alloy": "alloy/loki.source.journal.journal/positions.yml"}
"""Where each notes, every ten seconds, how far it has read."""
MAY_LOSE = {"promtail": 128, "alloy": 256}
"""Kilobytes, as compose/README.md says."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A machine on which Loki and Promtail are up, and an agent that logs."""
    with here.running("loki promtail alloy") as one:
        images.busybox(one.docker)
        one.write_agent()
        one.up("loki promtail", PROFILE="promtail")
        yield one


def ship_with(stack: Stack, shipper: str) -> None:
    """Have that one ship, and no other, as an operator does."""
    stack.up(f"loki {shipper}", PROFILE=shipper)
    running = stack.docker("ps", "--format", "{{.Names}}").split()
    assert {f"homelab-{name}-1" for name in SHIPPERS} & set(running) == {f"homelab-{shipper}-1"}


def shipped(stack: Stack, who: str) -> dict[str, Mapping[str, str]]:
    """Have all kinds of lines said; return the labels and metadata with which each came, less what is its own."""
    ids = {name: talking(stack, f"{name}-{who}", *options) for name, options in CONTAINERS.items()}
    found = {"event": until_newer(stack, '{component="gate"}', restart_agent(stack)).labels}
    stack.write_agent(more='[log]\nformat = "json"')
    found["event as JSON"] = until_newer(stack, '{component="gate"}', restart_agent(stack)).labels
    stack.write_agent()
    say(stack, f"others-{who}", "; ".join(f"echo '{text}'" for text in OTHERS))
    query = f'{{component="system"}} | unit="others-{who}.service"'
    stack.until_found(f'{query} |= "{OTHERS[-1]}"')
    of_unit = [one for one in stack.lines(query) if one.text in OTHERS]
    assert [one.text for one in of_unit] == OTHERS
    found |= {one.text: one.labels for one in of_unit}
    for name, number in ids.items():
        called = number[:12] if name == "plain" else f"{name}-{who}"
        query = f'{{component="container"}} | container="{called}"'
        found[name] = stack.until_found(f'{query} |= "more"', seconds=40).labels
        assert [one.text for one in stack.lines(query)] == said_by(name, who)
    stack.docker("rm", "--force", *ids.values())
    found["forged"] = forge(stack, f"impostor-{who}").labels
    return {kind: own_taken_off(labels, who) for kind, labels in found.items()}


def talking(stack: Stack, name: str, *options: str) -> str:
    """Start a container that says something, and then no more; return its id."""
    return stack.docker("run", "--detach", "--name", name, *options, "busybox", "sh", "-c", TALKS)


def said_by(name: str, who: str) -> list[str]:
    """Return what comes of what a container says, in which one line is empty.

    In the journal that is an empty message, which Alloy lets go; of Docker's file either makes a space.
    """
    if name != "journald":
        return SAID
    return [text.strip() for text in SAID if text.strip() or who == "promtail"]


def own_taken_off(labels: Mapping[str, str], who: str) -> dict[str, str]:
    """Return labels without what differs from run to run: ids, and names with the shipper's in it."""
    ids = r"[0-9a-f]{12}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    return {name: re.sub(ids, "ID", value.replace(who, "WHO")) for name, value in labels.items()}


def test_lines_come_as_by_promtail(stack: Stack) -> None:
    by_promtail = shipped(stack, "promtail")
    at = time.time()
    ship_with(stack, "alloy")
    assert shipped(stack, "alloy") == by_promtail
    streams: list[dict[str, Any]] = stack.loki("series", **{"match[]": '{job=~".+"}'})["data"]
    assert {name for one in streams for name in one} == LABELS
    assert "forged" not in {one["component"] for one in streams}
    assert {one["job"] for one in streams} == JOBS
    assert {one["host"] for one in streams} == {HOST}
    assert_it_began_at(stack, at)


def test_when_alloy_takes_over_no_line_is_lost_and_none_is_twice(stack: Stack) -> None:
    ship_with(stack, "promtail")
    say(stack, "before", "seq -f 'numbered %.0f' 1 500")
    counts = "i=0; while :; do i=$((i+1)); echo counted $i; sleep 0.1; done"
    number = stack.docker("run", "--detach", "--name", "counts", "busybox", "sh", "-c", counts)
    stack.until_found('{component="system"} |= "numbered 500"')
    at = time.time()
    stack.until_found('{job="docker"} |= "counted 10"')
    stack.docker("stop", "homelab-promtail-1")
    say(stack, "between", "seq -f 'numbered %.0f' 501 1000")
    ship_with(stack, "alloy")
    say(stack, "after", "seq -f 'numbered %.0f' 1001 1500")
    stack.docker("stop", "--time", "1", "counts")
    last = int(stack.docker("logs", "--tail", "1", "counts").split()[1])
    stack.until_found('{component="system"} |= "numbered 1500"')
    stack.until_found(f'{{job="docker"}} |= "counted {last}"')
    for query, word, lines in (
        ('{component="system"} |~ "^numbered [0-9]+$"', "numbered", 1500),
        ('{job="docker"} |~ "^counted [0-9]+$"', "counted", last),
    ):
        assert stack.count(query) == lines
        assert stack.texts(query) == {f"{word} {number}" for number in range(1, lines + 1)}
    assert_it_began_at(stack, at)
    assert lines_read(stack, f"loki_source_file_read_lines_total.*{number}") <= last - 10


def assert_it_began_at(stack: Stack, at: float) -> None:
    """Fail where Alloy has read more of the journal than there is since then.

    Loki keeps a line once that comes twice soon, and later twice: so it is Alloy who is asked.
    """
    read = lines_read(stack, "loki_source_journal_target_lines_total")
    assert 0 < read <= len(stack.machine.journal(f"--since=@{at:.6f}"))


def lines_read(stack: Stack, source: str) -> float:
    """Return how many lines Alloy has read since it was started, by its own metric of this beginning."""
    pid = str(stack.inspect("alloy")["State"]["Pid"])
    ask = "import urllib.request as it; print(it.urlopen('http://127.0.0.1:12345/metrics').read().decode())"
    said = stack.machine("nsenter", "--net", f"--target={pid}", "python3", "-c", ask)
    [found] = re.findall(rf"^{source}.* (\S+)$", said, flags=re.MULTILINE)
    return float(found)


def test_ten_minutes_without_loki_lose_nothing_by_alloy(stack: Stack) -> None:
    ship_with(stack, "alloy")
    stack.docker("stop", "homelab-loki-1")
    say(stack, "flood", f"seq -f 'flood %.0f' {ABSENT}")
    loki_returns(stack)
    stack.until_found(f'{{component="system"}} |= "flood {ABSENT}"', seconds=60)
    flood = '{component="system"} |~ "^flood [0-9]+$"'
    until(lambda: stack.count(flood) >= ABSENT, "all are there", seconds=60)
    assert stack.count(flood) == ABSENT
    assert len(stack.texts(flood)) == ABSENT


@pytest.mark.parametrize("shipper", SHIPPERS)
def test_a_shipper_that_is_killed_while_loki_is_away_loses_little(stack: Stack, shipper: str) -> None:
    ship_with(stack, shipper)
    word, kilobyte = f"heavy-{shipper}", "x" * 980
    script = f"for i in $(seq {KILOBYTES}); do echo {word} $i {kilobyte}; [ $((i % 40)) != 0 ] || sleep 0.1; done"
    stack.machine.run("systemd-run", "--property=LogRateLimitIntervalSec=0", f"--unit={word}", "sh", "-c", script)
    query = f'{{component="system"}} |~ "^{word} "'
    stack.until_found(query)
    stack.docker("stop", "homelab-loki-1")
    ends = ("systemctl", "is-active", "--quiet", f"{word}.service")
    until(lambda: stack.machine.run(*ends).returncode != 0, "all is said", seconds=60)
    said, positions = time.time(), stack.machine.path(VOLUME) / POSITIONS[shipper]
    until(lambda: positions.stat().st_mtime > said, "what it holds counts as read")
    kill(stack, shipper)
    loki_returns(stack)
    stack.until_found(f'{query} |= "{word} {KILOBYTES} "', seconds=60)
    lost = KILOBYTES - stack.count(query)
    assert lost <= MAY_LOSE[shipper]


def kill(stack: Stack, shipper: str) -> None:
    """End it at once; Docker starts it anew."""
    before = stack.inspect(shipper)["State"]["Pid"]
    stack.machine("kill", "-KILL", str(before))
    until(lambda: stack.inspect(shipper)["State"]["Pid"] not in {0, before}, "it is started again")


def loki_returns(stack: Stack) -> None:
    """Start Loki, and wait until it answers."""
    stack.docker("start", "homelab-loki-1")
    until(lambda: stack.is_healthy("loki"), "Loki is back", seconds=60)


def test_at_the_edge_it_ships_to_another_hosts_loki(stack: Stack) -> None:
    ship_with(stack, "alloy")
    done = stack.make("up", PROFILE="edge-alloy", LOKI_URL="http://loki:3100/")
    assert done.returncode == 0, done.stderr
    assert "This host's logs go to http://loki:3100." in done.stdout
    running = stack.docker("ps", "--format", "{{.Names}}").split()
    assert "homelab-alloy-edge-1" in running
    assert "homelab-alloy-1" not in running
    say(stack, "edge", "echo said at the edge")
    assert stack.until_found('{component="system"} |= "said at the edge"').labels["host"] == HOST
    ship_with(stack, "alloy")
