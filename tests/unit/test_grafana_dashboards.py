"""Dashboards are what the generator makes, and made so that Grafana and a person can read them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from compose.grafana.build import __main__ as generator
from compose.grafana.build import files, sql
from compose.grafana.build.boards import BOARDS
from compose.grafana.build.dashboard import COLUMNS
from compose.grafana.build.sql import ARMS, Measure

ROOT = Path(__file__).parents[2] / "compose/grafana"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(ROOT.glob("dashboards/*.json"))}
NAMES = ("overview", "host", "storage", "containers", "agent", "gitops", "gate", "reading", "backups", "logs")
SOURCES = {"homelab-postgres", "homelab-loki"}
LINK = re.compile(r"^/d/homelab-([a-z]+)/([a-z]+)\?")
each_dashboard = pytest.mark.parametrize("name", NAMES)


def panels(name: str) -> Iterator[Mapping[str, Any]]:
    return (panel for panel in DASHBOARDS[name]["panels"] if panel["type"] != "row")


def test_the_files_are_what_is_generated() -> None:
    made = files.files()
    assert {name: (ROOT / name).read_text() for name in made} == made, "make generate"
    assert {f"dashboards/{name}.json" for name in DASHBOARDS} == {name for name in made if name.startswith("dash")}
    assert tuple(board.name for board in BOARDS) == NAMES


def test_what_is_generated_anew_replaces_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "dashboards").mkdir()
    (tmp_path / "dashboards/gone.json").write_text("{}")
    generator.write(tmp_path)
    assert sorted(path.stem for path in tmp_path.glob("dashboards/*")) == sorted(NAMES)


@each_dashboard
def test_its_head_is_of_the_classic_model(name: str) -> None:
    found = DASHBOARDS[name]
    assert found["uid"] == f"homelab-{name}"
    assert 39 <= found["schemaVersion"] <= 41
    assert found["title"]
    assert found["description"]
    assert found["editable"] is False
    assert "id" not in found
    [link] = found["links"]
    assert (link["type"], link["tags"], link["keepTime"], link["includeVars"]) == (
        "dashboards",
        found["tags"],
        True,
        True,
    )
    assert {"host"} <= {one["name"] for one in found["templating"]["list"]}
    assert all(one["includeAll"] and one["multi"] for one in found["templating"]["list"] if one["type"] == "query")


def test_uids_and_titles_are_unique() -> None:
    for what in ("uid", "title"):
        assert len({found[what] for found in DASHBOARDS.values()}) == len(DASHBOARDS)


@each_dashboard
def test_it_has_few_panels_with_ids_and_titles_of_their_own(name: str) -> None:
    all_panels = DASHBOARDS[name]["panels"]
    assert 5 <= len(all_panels) <= 30
    assert sorted(panel["id"] for panel in all_panels) == list(range(1, len(all_panels) + 1))
    assert [title for title, count in Counter(panel["title"] for panel in panels(name)).items() if count > 1] == []


@each_dashboard
def test_no_panel_lies_over_another(name: str) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARDS[name]["panels"]:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= COLUMNS
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, (panel["title"], taken[x, y])
                taken[x, y] = panel["title"]
    height = max(y for _, y in taken) + 1
    assert {y for _, y in taken} == set(range(height)), "no line is empty"


@each_dashboard
def test_each_panel_says_what_it_means_in_which_unit_and_what_if_there_is_nothing(name: str) -> None:
    for panel in panels(name):
        defaults = panel["fieldConfig"]["defaults"]
        assert len(panel["description"]) > 10, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert defaults["unit"], panel["title"]
        assert len(defaults["noValue"]) > 10 or defaults["noValue"] == "All is well", panel["title"]
        steps = defaults["thresholds"]["steps"]
        assert steps[0]["value"] is None, panel["title"]
        values = [step["value"] for step in steps[1:]]
        assert values == sorted(values), panel["title"]


@each_dashboard
def test_each_panel_asks_a_source_that_is_provisioned_and_each_query_has_a_letter(name: str) -> None:
    for panel in panels(name):
        targets = panel.get("targets", [])
        assert bool(targets) == (panel["type"] != "alertlist"), panel["title"]
        assert {target["datasource"]["uid"] for target in targets} <= SOURCES
        assert [target["refId"] for target in targets] == ["A", "B", "C"][: len(targets)]
        for target in targets:
            if "rawSql" in target:
                wanted = "time_series" if panel["type"] in {"timeseries", "state-timeline"} else "table"
                assert target["format"] == wanted, panel["title"]


@each_dashboard
def test_its_links_lead_to_dashboards_with_the_variables_that_they_set(name: str) -> None:
    for panel in panels(name):
        overrides = [one for each in panel["fieldConfig"]["overrides"] for one in each["properties"]]
        urls = [link["url"] for link in (*panel["links"], *panel["fieldConfig"]["defaults"]["links"])]
        urls += [link["url"] for one in overrides if one["id"] == "links" for link in one["value"]]
        assert any(url.startswith("/d/homelab-logs/logs?${__url_time_range}") for url in urls), panel["title"]
        for url in urls:
            found = LINK.match(url)
            assert found is not None, url
            variables = {one["name"] for one in DASHBOARDS[found[1]]["templating"]["list"]}
            assert set(re.findall(r"var-(\w+)=", url)) <= variables, url
            assert set(re.findall(r"\$\{(\w+):queryparam\}", url)) <= variables, url


def test_a_link_to_logs_of_a_component_names_one_that_can_be_chosen() -> None:
    [component] = [one for one in DASHBOARDS["logs"]["templating"]["list"] if one["name"] == "component"]
    known = set(component["query"].split(","))
    text = json.dumps(DASHBOARDS)
    assert set(re.findall(r"var-component=(\w+)", text)) <= known
    assert set(re.findall(r'component=\\"(\w+)\\"', text)) <= known


def test_components_that_can_be_chosen_are_those_of_the_agent_and_two_that_are_not() -> None:
    [component] = [one for one in DASHBOARDS["logs"]["templating"]["list"] if one["name"] == "component"]
    package = Path(__file__).parents[2] / "homelab_agent"
    said = {
        name for path in package.rglob("*.py") for name in re.findall(r'journal\.logger\("(\w+)"\)', path.read_text())
    }
    assert said | {"system", "container"} <= set(component["query"].split(","))


@each_dashboard
def test_what_happened_is_drawn_over_all_charts(name: str) -> None:
    found = {one["name"]: one for one in DASHBOARDS[name]["annotations"]["list"]}
    assert {"Deploys", "Door open", "Backups", "Agent starts", "No samples"} < found.keys()
    assert all(one["enable"] for one in found.values())


def test_variables_of_a_query_are_those_of_its_dashboard() -> None:
    for name in NAMES:
        variables = {one["name"] for one in DASHBOARDS[name]["templating"]["list"]}
        texts = json.dumps([DASHBOARDS[name]["panels"], DASHBOARDS[name]["annotations"]])
        assert set(re.findall(r"\$\{(\w+):(?:sqlstring|regex)\}", texts)) <= variables, name


@pytest.mark.parametrize("minutes", [True, False])
def test_one_arm_answers_whatever_is_asked(minutes: bool) -> None:  # noqa: FBT001
    """The conditions, computed here as PostgreSQL does: never two arms, never none, and none that is gone."""
    day = 86400
    for length in (60, 3600, 3 * 3600, 3 * 3600 + 1, day, 2 * day, 7 * day, 90 * day, 400 * day):
        for age in (length + ago for ago in (0, day, 28 * day, 40 * day, 200 * day, 800 * day)):
            answering = [arm for number, arm in enumerate(ARMS) if holds(sql.gate(number, "cpu"), length, age, minutes)]
            [arm] = answering
            instead = ARMS[1] if arm is ARMS[0] and not minutes else arm
            assert arm is ARMS[-1] or (length <= instead.longest and age <= instead.kept)
            assert minutes or arm is not ARMS[1]


def holds(condition: str, length: int, age: int, minutes: bool) -> bool:  # noqa: FBT001
    condition = re.sub(r"coalesce\(.*?, false\)", str(minutes), condition, flags=re.DOTALL)
    condition = condition.replace("$__unixEpochTo() - $__unixEpochFrom()", str(length))
    condition = condition.replace("extract(epoch FROM now()) - $__unixEpochFrom()", str(age))
    return bool(eval(condition.replace("AND", "and").replace("NOT", "not").replace("OR", "or")))


def test_a_measure_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="nobody knows"):
        Measure("busy_pct", "median").aggregate(ARMS[0])
