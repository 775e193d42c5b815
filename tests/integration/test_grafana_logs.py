"""What the dashboards ask of Loki, asked of the real one as Grafana does: each panel finds its lines, and no others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.grafana_macros import Range, asked_of_loki
from tests.neighbours.loki import Loki

DASHBOARDS = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).parents[2] / "compose/grafana/dashboards").glob("*.json"))
}
HOUR = Range(datetime.now(UTC), timedelta(hours=1))
SAID = {
    "gate": "gate.opened",
    "gitops": "gitops.rolled_back",
    "backup": "backup.stored",
    "reading": "reading.rejected",
    "secrets": "secrets.log_in_failed",
    "health": "health.needs_you",
}
LEVELS = ("info", "warning", "error")
UNIT = "Started ssh.service - OpenBSD Secure Shell server {not json"


def expressions() -> list[tuple[str, str, str]]:
    """Return of each panel over Loki its dashboard, title and LogQL."""
    return [
        (name, panel["title"], target["expr"])
        for name, found in DASHBOARDS.items()
        for panel in found["panels"]
        for target in panel.get("targets", ())
        if "expr" in target
    ]


def told(loki: Loki, host: str) -> None:
    """Have Loki hold what a shipper brings of one host."""
    for component, event in SAID.items():
        lines = [
            json.dumps(
                {
                    "level": level, "component": component, "event": event, "host": host,
                    "check": "gate.funnel", "detail": f"about {host}", "repair": "homelab-agent doctor",
                    "run_id": "r1",
                }
            )
            for level in LEVELS
        ]  # fmt: skip
        loki.push(
            lines, metadata={"event": event, "run_id": "r1"}, job="systemd-journal", host=host, component=component
        )
    system = {"job": "systemd-journal", "host": host, "component": "system"}
    loki.push([UNIT], metadata={"unit": "ssh.service", "priority": "info"}, **system)
    loki.push(["I/O error, dev sda"], metadata={"unit": "", "priority": "error"}, **system)
    container = {"job": "docker", "host": host, "component": "container"}
    loki.push(["ready", "FATAL: no space left"], metadata={"container": "photos-db-1"}, **container)


def variables(name: str, **chosen: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Return what is chosen: all, where nothing is said; of a list that Grafana knows, all is its own pattern."""
    found: dict[str, Any] = {"host": ("nas", "pi"), "search": ("",)}
    for each in DASHBOARDS[name]["templating"]["list"]:
        if each["type"] == "custom":
            found[each["name"]] = each["allValue"]
    return found | chosen


@pytest.fixture
def filled(loki: Loki) -> Loki:
    for host in ("nas", "pi", "elsewhere"):
        told(loki, host)
    return loki


def test_each_panel_over_loki_finds_lines_of_the_hosts_that_are_chosen(filled: Loki) -> None:
    for name, title, expression in expressions():
        query = asked_of_loki(expression, HOUR, variables(name))
        if expression.startswith("sum"):
            rows = filled.instant(query)
            assert rows, f"{name} {title}: {query}"
            continue
        lines = filled.query(query)
        assert {line.labels["host"] for line in lines} == {"nas", "pi"}, f"{name} {title}: {query}"


@pytest.mark.parametrize(
    ("board", "component"), [("gate", "gate"), ("gitops", "gitops"), ("backups", "backup"), ("reading", "reading")]
)
def test_a_dashboard_shows_the_lines_of_its_component(filled: Loki, board: str, component: str) -> None:
    [query] = [one for name, _, one in expressions() if name == board]
    lines = filled.query(asked_of_loki(query, HOUR, variables(board, host=("nas",))))
    assert {line.labels["component"] for line in lines} == {component}
    assert [line.labels["level"] for line in lines] == list(LEVELS)
    assert all(line.labels["event"] == SAID[component] and line.labels["run_id"] == "r1" for line in lines)


def test_warnings_and_errors_are_the_agents_own(filled: Loki) -> None:
    for name in ("overview", "logs"):
        [query] = [one for at, title, one in expressions() if at == name and title.startswith("Warnings")]
        lines = filled.query(asked_of_loki(query, HOUR, variables(name, host=("nas",))))
        assert {line.labels["level"] for line in lines} == {"warning", "error"}
        assert {line.labels["component"] for line in lines} == set(SAID)


def test_what_needs_somebody_is_said_in_words(filled: Loki) -> None:
    [query] = [one for name, title, one in expressions() if title == "What needed somebody"]
    lines = filled.query(asked_of_loki(query, HOUR, variables("agent", host=("nas",))))
    assert {line.text for line in lines} == {"health.needs_you gate.funnel: about nas homelab-agent doctor"}


def test_what_containers_complain_about_leaves_out_what_is_none(filled: Loki) -> None:
    [query] = [one for name, _, one in expressions() if name == "containers"]
    lines = filled.query(asked_of_loki(query, HOUR, variables("containers", host=("nas",))))
    assert [(line.text, line.labels["container"]) for line in lines] == [("FATAL: no space left", "photos-db-1")]


def test_the_logs_are_those_of_the_component_level_and_text_that_are_chosen(filled: Loki) -> None:
    queries = {title: one for name, title, one in expressions() if name == "logs"}

    def found(title: str, **chosen: Sequence[str]) -> list[tuple[str, str]]:
        lines = filled.query(asked_of_loki(queries[title], HOUR, variables("logs", host=("nas",), **chosen)))
        return [(line.labels["component"], line.text) for line in lines]

    everything = found("Everything")
    assert ("system", UNIT) in everything, "a line that is no JSON is shown as it is"
    assert len(everything) == len(SAID) * len(LEVELS) + 4
    assert {component for component, _ in found("Everything", component=("gate", "system"))} == {"gate", "system"}
    assert found("Everything", search=("SPACE LEFT",)) == [("container", "FATAL: no space left")]
    assert found("Everything", search=("ssh.service - (",)) == [], "what is typed is no pattern"
    assert len(found("Everything", search=("server {not",))) == 1
    assert {json.loads(text)["level"] for _, text in found("What the agents said", level=("error",))} == {"error"}
    assert found("Errors of the system") == [("system", "I/O error, dev sda")]


def test_lines_are_counted_by_component_and_by_level(filled: Loki) -> None:
    queries = {title: one for name, title, one in expressions() if name == "logs"}

    def counted(title: str, label: str) -> dict[str, float]:
        rows = filled.instant(asked_of_loki(queries[title], HOUR, variables("logs", host=("nas",))))
        return {labels[label]: value for labels, value in rows}

    assert counted("Lines by component", "component") == {**dict.fromkeys(SAID, 3.0), "system": 2.0, "container": 2.0}
    assert counted("Lines of the agents by level", "level") == dict.fromkeys(LEVELS, float(len(SAID)))
