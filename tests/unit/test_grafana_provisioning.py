"""What Grafana reads when it starts has the shape that its readers take (its pkg/services/provisioning)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from compose.grafana.build import alert, document
from compose.grafana.build.alert import Rule
from compose.grafana.build.rules import GROUPS

ROOT = Path(__file__).parents[2] / "compose/grafana"
PROVISIONING = ROOT / "provisioning"
RULES = [rule for group in GROUPS for rule in group.rules]
DURATION = re.compile(r"\d+[smhd]")
DATASOURCE = {
    "name", "uid", "orgId", "type", "access", "url", "user", "isDefault", "editable", "jsonData", "secureJsonData",
}  # fmt: skip
RULE = {
    "uid", "title", "condition", "data", "dashboardUid", "panelId", "noDataState", "execErrState", "for", "annotations",
    "labels", "isPaused",
}  # fmt: skip
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((PROVISIONING / name).read_text())
    return found


def test_only_files_that_are_known_are_read() -> None:
    found = {str(path.relative_to(PROVISIONING)) for path in PROVISIONING.rglob("*") if path.is_file()}
    assert found == {"datasources/homelab.yaml", "dashboards/homelab.yaml", "alerting/homelab.yaml"}


def test_the_sources_have_fixed_uids_a_database_where_it_is_read_and_a_password_from_a_file() -> None:
    found = read("datasources/homelab.yaml")
    assert found["apiVersion"] == 1
    assert set(found) == {"apiVersion", "datasources"}
    postgres, loki = found["datasources"]
    for one in (postgres, loki):
        assert set(one) <= DATASOURCE
        assert (one["access"], one["editable"], one["orgId"]) == ("proxy", False, 1)
    assert (postgres["uid"], postgres["type"]) == ("homelab-postgres", "grafana-postgresql-datasource")
    assert (postgres["url"], postgres["user"]) == ("postgres:5432", "grafana")
    assert postgres["jsonData"]["database"] == "homelab"
    assert "database" not in postgres
    assert postgres["secureJsonData"] == {"password": "$__file{/run/secrets/grafana_database_password}"}
    assert (loki["uid"], loki["type"], loki["url"]) == ("homelab-loki", "loki", "http://loki:3100")


def test_dashboards_are_taken_from_where_the_stack_puts_them_and_are_not_changed_in_the_browser() -> None:
    found = read("dashboards/homelab.yaml")
    assert found["apiVersion"] == 1
    [provider] = found["providers"]
    assert provider["type"] == "file"
    assert provider["allowUiUpdates"] is False
    assert provider["folder"] == alert.FOLDER
    assert provider["options"] == {"path": "/etc/grafana/dashboards", "foldersFromFilesStructure": False}
    assert isinstance(provider["updateIntervalSeconds"], int)


def test_the_alerts_are_read_as_they_were_meant() -> None:
    found = read("alerting/homelab.yaml")
    assert found == json.loads(json.dumps(alert.as_file(GROUPS)))
    assert set(found) == {"apiVersion", "groups"}, "contact points and policies are the user's"
    for group in found["groups"]:
        assert set(group) == {"orgId", "name", "folder", "interval", "rules"}
        assert DURATION.fullmatch(group["interval"])


def test_uids_and_titles_of_rules_are_unique() -> None:
    assert len({rule.uid for rule in RULES}) == len(RULES)
    assert len({rule.title for rule in RULES}) == len(RULES)
    assert all(len(rule.uid) <= 40 for rule in RULES)


@each_rule
def test_a_rule_has_a_threshold_over_a_query_and_leads_to_a_panel(rule: Rule) -> None:
    found = rule.as_json()
    assert set(found) == RULE
    query, threshold = found["data"]
    assert set(query) == set(threshold) == {"refId", "relativeTimeRange", "datasourceUid", "model"}
    assert (query["refId"], query["model"]["refId"], query["datasourceUid"]) == ("A", "A", "homelab-postgres")
    assert (query["model"]["format"], query["model"]["rawQuery"]) == ("table", True)
    assert (threshold["refId"], threshold["datasourceUid"]) == (found["condition"], "__expr__")
    assert (threshold["model"]["type"], threshold["model"]["expression"]) == ("threshold", "A")
    [condition] = threshold["model"]["conditions"]
    assert condition["evaluator"]["type"] in {"gt", "lt"}
    assert found["noDataState"] in {"OK", "NoData", "Alerting", "KeepLast"}
    assert found["execErrState"] in {"OK", "Error", "Alerting", "KeepLast"}
    assert DURATION.fullmatch(found["for"])
    board = json.loads((ROOT / f"dashboards/{rule.board}.json").read_text())
    [panel] = [panel for panel in board["panels"] if panel["id"] == found["panelId"]]
    assert (board["uid"], panel["title"]) == (found["dashboardUid"], rule.panel)


@each_rule
def test_a_rule_says_what_why_and_what_mends_it(rule: Rule) -> None:
    annotations = rule.as_json()["annotations"]
    assert set(annotations) == {"summary", "description", "repair"}
    assert all(len(text) > 10 for text in annotations.values())
    assert "$" not in "".join(annotations.values()), "Grafana takes it for a variable when it reads the file"
    assert rule.severity in {"critical", "warning", "info"}


def test_only_the_age_of_samples_alarms_for_a_database_that_does_not_answer() -> None:
    assert [rule.name for rule in RULES if rule.on_error == alert.ALERTING] == ["samples-late"]
    assert [rule.name for rule in RULES if rule.no_data == alert.ALERTING] == ["samples-late"]


def test_a_command_that_a_rule_names_is_there() -> None:
    from homelab_agent.cli import main  # what it collects takes a moment

    for rule in RULES:
        for words in re.findall(r"homelab-agent((?: [a-z-]+)+)", rule.repair):
            command: Any = main
            for word in words.split():
                if not hasattr(command, "get_command"):
                    break
                found = command.get_command(None, word)
                assert found is not None, f"{rule.name}: {words}"
                command = found


def test_a_rule_needs_exactly_one_threshold() -> None:
    for over, under in ((None, None), (1.0, 2.0)):
        rule = replace(RULES[0], over=over, under=under)
        with pytest.raises(ValueError, match="one threshold"):
            rule.as_json()


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=40)
LINES = st.lists(TEXT.map(lambda text: f"x{text.rstrip()}y"), min_size=1, max_size=4).map("\n".join)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(-1e6, 1e6) | TEXT | LINES
NAMES = st.from_regex(r"[a-z][a-zA-Z_]{0,10}", fullmatch=True).filter(
    lambda name: name not in {"y", "n", "on", "off", "no", "yes", "true", "false", "null"}
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4))


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4))
def test_what_is_written_is_read_back(value: Mapping[str, Any]) -> None:
    assert yaml.safe_load(document.written(value)) == value
