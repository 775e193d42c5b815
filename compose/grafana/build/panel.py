"""One panel: what it asks, what it means, and how Grafana writes that down (the classic model, schema version 39)."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compose.grafana.build.datasource import LOKI, POSTGRES

LOGS = "/d/homelab-logs/logs?${__url_time_range}&${host:queryparam}"
"""Where the logs of the shown time and hosts are."""

GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "text"


@dataclass(frozen=True, slots=True)
class Step:
    """From which value on what colour is shown; None is the beginning."""

    color: str
    value: float | None = None


PLAIN = (Step(GREEN),)
"""No value of it is bad by itself."""


def above(warning: float, critical: float | None = None) -> Sequence[Step]:
    """Return thresholds of what is bad when it is much."""
    return (Step(GREEN), Step(ORANGE, warning), *([Step(RED, critical)] if critical is not None else []))


def below(critical: float, warning: float) -> Sequence[Step]:
    """Return thresholds of what is bad when it is little."""
    return (Step(RED), Step(ORANGE, critical), Step(GREEN, warning))


@dataclass(frozen=True, slots=True)
class Query:
    """One question: SQL, or LogQL where `is_logs`. A chart is a `time_series`, all else a `table`."""

    text: str
    format: str = "time_series"
    is_logs: bool = False
    legend: str = ""

    @property
    def datasource(self) -> Mapping[str, str]:
        """Who is asked."""
        return LOKI if self.is_logs else POSTGRES

    def as_json(self, number: int) -> Mapping[str, Any]:
        """Return the target."""
        head: dict[str, Any] = {"refId": string.ascii_uppercase[number], "datasource": self.datasource}
        if self.is_logs:
            more = {"legendFormat": self.legend} if self.legend else {}
            return {**head, "editorMode": "code", "expr": self.text, "queryType": "range", **more}
        return {**head, "editorMode": "code", "format": self.format, "rawQuery": True, "rawSql": self.text}


@dataclass(frozen=True, slots=True)
class Override:
    """How fields of one name differ from the others."""

    name: str
    properties: Mapping[str, Any]
    is_pattern: bool = False

    def as_json(self) -> Mapping[str, Any]:
        """Return the override."""
        matcher = {"id": "byRegexp" if self.is_pattern else "byName", "options": self.name}
        return {
            "matcher": matcher,
            "properties": [{"id": name, "value": value} for name, value in self.properties.items()],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel. `empty` is said where there is nothing; `component` is whose logs its link shows.

    `custom` and `options` are merged over what its kind has by default; `interval` is the shortest step.
    """

    title: str
    description: str
    empty: str
    queries: Sequence[Query] = ()
    kind: str = "timeseries"
    unit: str = "short"
    thresholds: Sequence[Step] = PLAIN
    width: int = 12
    height: int = 8
    component: str = ""
    minimum: float | None = None
    maximum: float | None = None
    decimals: int | None = None
    interval: str = ""
    mappings: Sequence[Mapping[str, Any]] = ()
    overrides: Sequence[Override] = ()
    custom: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self, number: int, x: int, y: int) -> Mapping[str, Any]:
        """Return the panel with its number and place."""
        logs = LOGS + (f"&var-component={self.component}" if self.component else "")
        found: dict[str, Any] = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "links": [{"title": "Logs of this time", "url": logs, "targetBlank": False}],
            "fieldConfig": {"defaults": self._defaults(logs), "overrides": [one.as_json() for one in self.overrides]},
            "options": {**_OPTIONS.get(self.kind, {}), **self.options},
        }
        if self.queries:
            found["datasource"] = self.queries[0].datasource
            found["targets"] = [one.as_json(position) for position, one in enumerate(self.queries)]
        if self.interval:
            found["interval"] = self.interval
        return found

    def _defaults(self, logs: str) -> Mapping[str, Any]:
        found: dict[str, Any] = {
            "unit": self.unit,
            "noValue": self.empty,
            "color": {"mode": _COLOURS.get(self.kind, "thresholds")},
            "thresholds": {
                "mode": "absolute",
                "steps": [{"color": one.color, "value": one.value} for one in self.thresholds],
            },
            "mappings": list(self.mappings),
            "links": [{"title": "Logs of this time", "url": logs}],
            "custom": {**_CUSTOM.get(self.kind, {}), **self.custom},
        }
        if self.kind == "timeseries" and len(self.thresholds) > 1:
            found["custom"]["thresholdsStyle"] = {"mode": "dashed"}
        bounds = {"min": self.minimum, "max": self.maximum, "decimals": self.decimals}
        return found | {name: value for name, value in bounds.items() if value is not None}


_COLOURS = {"timeseries": "palette-classic"}
_CUSTOM: Mapping[str, Mapping[str, Any]] = {
    "timeseries": {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 8,
        "showPoints": "never",
        "spanNulls": 300_000,
        "axisSoftMin": 0,
    },
    "table": {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True},
    "state-timeline": {"lineWidth": 0, "fillOpacity": 80},
}
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "right", "showLegend": True, "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "colorMode": "background",
        "graphMode": "none",
        "justifyMode": "center",
        "textMode": "value",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    },
    "bargauge": {
        "displayMode": "basic",
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": True},
    },
    "table": {"showHeader": True, "cellHeight": "sm", "footer": {"show": False}},
    "state-timeline": {
        "mergeValues": True,
        "showValue": "never",
        "rowHeight": 0.8,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "single"},
    },
    "logs": {
        "showTime": True,
        "wrapLogMessage": True,
        "enableLogDetails": True,
        "dedupStrategy": "none",
        "sortOrder": "Descending",
        "prettifyLogMessage": False,
        "showLabels": False,
    },
    "alertlist": {
        "viewMode": "list",
        "groupMode": "default",
        "groupBy": [],
        "maxItems": 20,
        "sortOrder": 3,
        "dashboardAlerts": False,
        "alertName": "",
        "alertInstanceLabelFilter": "",
        "folder": {"title": "homelab", "uid": ""},
        "stateFilter": {"firing": True, "pending": True, "noData": True, "normal": False, "error": True},
    },
}
