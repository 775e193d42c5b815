"""`GET /metrics`: valid, named as node_exporter names it, and nothing is collected for it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from homelab_agent.core.clock import Drift, Instant
from homelab_agent.metrics.collection import Collection
from homelab_agent.metrics.entity import Entities
from homelab_agent.metrics.exposition import Exposition
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.latest import Latest
from homelab_agent.metrics.names import METRICS
from homelab_agent.metrics.sample import Families, Quality, Reading, Status, Values
from homelab_agent.metrics.settings import MetricsSettings
from homelab_agent.metrics.ticker import Tick

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
Series = dict[str, dict[frozenset[tuple[str, str]], float]]


def quality() -> Quality:
    collectors = {"cpu": (Status.OK, 0.3), "temperature": (Status.NOT_AVAILABLE, 0.0)}
    return Quality(NOON, NOON, 1.5, 3.0, 0.0, 0.0, 2, 0, spooled=False, clock_synchronised=True, collectors=collectors)


def parsed(text: str) -> Series:
    """Return every series by name and labels; the parser raises where the text is not valid."""
    found: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series = found.setdefault(sample.name, {})
            labels = frozenset(sample.labels.items())
            assert labels not in series, f"{sample.name} is there twice"
            series[labels] = sample.value
    return found


def text_of(families: Families, age: float = 0.0) -> str:
    latest = Latest()
    latest.take(families, quality(), 100.0)
    return Exposition(latest, lambda: 100.0 + age).text().decode()


@contextmanager
def node_exporter() -> Iterator[str]:
    """Run Debian's prometheus-node-exporter on a free port; yield its metrics' address."""
    program = shutil.which("prometheus-node-exporter")
    if program is None:
        pytest.skip("prometheus-node-exporter is not installed")
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    arguments = [program, f"--web.listen-address=127.0.0.1:{port}", "--collector.interrupts"]
    if Path("/run/systemd/system").is_dir():
        arguments += ["--collector.systemd", "--collector.systemd.enable-restarts-metrics"]
        arguments.append("--collector.systemd.unit-exclude=none")
    child = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}/metrics"
    finally:
        child.kill()
        child.wait()


def fetched(address: str) -> str:
    deadline = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(address) as answer:
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise


async def taken() -> Families:
    collection = Collection(Host("here"), MetricsSettings())
    now = Instant(datetime.now(UTC), time.monotonic(), time.monotonic())
    return (await collection.take(Tick(now.wall, now, 0, Drift(0, 0)))).families


async def test_what_node_exporter_has_too_has_its_names_labels_types_and_values() -> None:
    with node_exporter() as address:
        theirs_text = fetched(address)
        ours = parsed(text_of(await taken()))
    theirs = parsed(theirs_text)
    types = {family.name: family.type for family in text_string_to_metric_families(theirs_text)}
    our_types = {family.name: family.type for family in text_string_to_metric_families(text_of(await taken()))}
    compared = 0
    for name, series in ours.items():
        if not name.startswith("node_") or name == "node_timex_sync_status":
            continue
        assert name in theirs, f"node_exporter has no {name}"
        family = name.removesuffix("_total")
        assert types.get(family, types.get(name)) in {our_types.get(family, our_types.get(name)), "unknown"}
        for labels, value in series.items():
            assert labels in theirs[name], f"{name} has other labels: {dict(labels)}"
            compared += 1
            if name.endswith(("_size_bytes", "_MemTotal_bytes", "_files", "_readonly", "_carrier", "_up")):
                assert value == theirs[name][labels]
            elif name.endswith("_total"):
                assert value == pytest.approx(theirs[name][labels], rel=0.2, abs=200)
    assert compared > 60


def test_ages_and_collectors_are_told() -> None:
    entities = Entities("here")
    found = parsed(text_of({"load": [Reading(entities.get("load", "total"), {"load1": 0.5})]}, age=12.5))
    assert found["homelab_agent_sample_age_seconds"] == {frozenset({("family", "load")}): 12.5}
    assert found["homelab_agent_collector_success"] == {frozenset({("collector", "cpu")}): 1}
    assert found["homelab_agent_ticks_skipped_total"] == {frozenset(): 2}
    assert found["node_load1"] == {frozenset(): 0.5}


def test_names_of_any_kind_are_escaped() -> None:
    mount = Entities("here").get("filesystem", "x", '/mnt/"a\\b\nc\udcff')
    values: Values = {"device": "//nas/share", "type": "cifs", "size_bytes": 5, "error": False}
    found = parsed(text_of({"filesystem": [Reading(mount, values)]}))
    [labels] = found["node_filesystem_size_bytes"]
    assert dict(labels)["mountpoint"].startswith('/mnt/"a\\b\nc')


@pytest.mark.parametrize(
    ("family", "column", "label", "before", "after"),
    [
        ("unit", "type", "type", "oneshot", "simple"),  # an edited file, and systemctl daemon-reload
        ("filesystem", "type", "fstype", "ext3", "ext4"),
        ("filesystem", "device", "device", "/dev/sda1", "/dev/sdb1"),
        ("temperature", "input", "sensor", "temp1", "temp2"),
        ("probe", "target", "target", "nas:22", "nas:80"),
        ("container", "image", "image", "postgres:18", "postgres:19"),
    ],
)
def test_a_label_says_what_is_so_now(family: str, column: str, label: str, before: str, after: str) -> None:
    entity = Entities("here").get(family, "x")
    base: Values = {"device": "sda", "type": "ext4", "input": "temp1", "target": "nas:22", "image": "busybox"}
    known: Values = {name: 1 for metric in METRICS[family] for name, _ in metric.columns}
    latest = Latest()
    exposition, seen = Exposition(latest, lambda: 100.0), []
    for value in (before, after):
        latest.take({family: [Reading(entity, {**known, **base, column: value})]}, quality(), 100.0)
        series = parsed(exposition.text().decode())[METRICS[family][0].name]
        seen.append({dict(labels)[label] for labels in series})
    assert seen == [{before}, {after}]


def test_before_the_first_sample_there_is_nothing() -> None:
    assert Exposition(Latest(), lambda: 0.0).text() == b""


def test_a_large_host_is_written_in_little_time() -> None:
    """The limit is the issue's 1 ms CPU for a scrape; measured by `make bench`, here only that it is of that order."""
    entities = Entities("here")
    families = {
        family: [
            Reading(
                entities.get(family, f"{family} {n}"),
                {"device": f"d{n}", "type": "ext4", "input": "temp1", "target": "nas:22", "image": "busybox"}
                | {column: 12345.678 for metric in metrics for column, _ in metric.columns},
            )
            for n in range(1 if family in {"cpu", "memory", "load", "agent"} else 8)
        ]
        for family, metrics in METRICS.items()
    }
    latest = Latest()
    exposition = Exposition(latest, lambda: 100.0)
    best = float("inf")
    for _ in range(20):
        latest.take(families, quality(), 100.0)
        began = time.thread_time()
        text = exposition.text()
        best = min(best, time.thread_time() - began)
    assert text.count(b"\n") > 400
    assert best < 0.005
