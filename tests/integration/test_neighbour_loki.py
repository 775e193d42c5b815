"""The neighbour Loki is what it says, with the configuration that is delivered, and breaks as it says."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.neighbours import alloy
from tests.neighbours import loki as neighbour
from tests.neighbours.loki import Loki
from tests.waiting import until

GATE = '{component="gate"}'
COMPOSE = Path(__file__).parents[2] / "compose"


def test_versions_are_those_that_are_locked_and_loki_is_the_one_that_compose_pins() -> None:
    for module, version in (("loki", neighbour.VERSION), ("promtail", neighbour.PROMTAIL_VERSION)):
        locked = Path(neighbour.__file__).parent / f"go/{module}/go.mod"
        assert f"\tgithub.com/grafana/loki/v3 v{version} // indirect\n" in locked.read_text()
    locked = Path(neighbour.__file__).parent / "go/alloy/go.mod"
    assert f"\tgithub.com/grafana/alloy v{alloy.VERSION}\n" in locked.read_text()
    assert f"grafana/loki:{neighbour.VERSION}}}" in (COMPOSE / "docker-compose.yml").read_text()
    assert [one.version() for one in neighbour.NEIGHBOURS] == [neighbour.VERSION, neighbour.PROMTAIL_VERSION]
    assert alloy.NEIGHBOUR.version() == alloy.VERSION


def test_lines_come_back_with_labels_metadata_and_what_is_parsed(loki: Loki) -> None:
    events = [json.dumps({"component": "gate", "event": f"gate.{word}"}) for word in ("opened", "closed")]
    loki.push(events, metadata={"run_id": "7"}, job="systemd-journal", host="nas", component="gate")
    found = loki.query(f"{GATE} | json")
    assert [one.text for one in found] == events
    assert [one.labels["event"] for one in found] == ["gate.opened", "gate.closed"]
    assert found[0].labels["run_id"] == "7"
    assert loki.instant(f"sum(count_over_time({GATE}[1h]))")[0][1] == 2
    assert loki.label_values("component") == ["gate"]
    assert loki.logcli("labels").split() == ["component", "host", "job"]
    assert "gate.closed" in loki.logcli("query", GATE)


def test_each_test_finds_it_empty(loki: Loki) -> None:
    assert not loki.query('{job=~".+"}')


def test_killed_it_comes_back_with_every_line(loki: Loki) -> None:
    loki.push([f"line {number}" for number in range(1000)], component="gate")
    loki.kill()
    with pytest.raises(OSError, match="refused"):
        loki.push(["in vain"], component="gate")
    loki.up()
    until(lambda: len(loki.query(GATE)) == 1000, "all are there")


def test_frozen_it_answers_nobody_and_thawed_it_goes_on(loki: Loki) -> None:
    loki.push(["before"], component="gate")
    loki.freeze()
    health: list[str | Path] = [neighbour.program(), "-health", f"-health.url={loki.url}/ready"]
    assert subprocess.run(health, capture_output=True, check=False).returncode == 1
    loki.thaw()
    assert subprocess.run(health, capture_output=True, check=False).returncode == 0
    assert [one.text for one in loki.query(GATE)] == ["before"]
