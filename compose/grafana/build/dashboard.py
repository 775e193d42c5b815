"""A dashboard: rows of panels on Grafana's grid of 24 columns, with variables, annotations and links."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compose.grafana.build.annotations import ANNOTATIONS
from compose.grafana.build.datasource import GRAFANA
from compose.grafana.build.panel import Panel
from compose.grafana.build.variable import HOST, Variable

TAG = "homelab-agent"
SCHEMA_VERSION = 39
"""Grafana 11 to 13 read it."""

COLUMNS = 24


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading; without a title it has none."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One dashboard; `name` is its file, and its uid after `homelab-`."""

    name: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = ()
    since: str = "now-24h"

    @property
    def uid(self) -> str:
        """What links call it."""
        return f"homelab-{self.name}"

    def as_json(self) -> Mapping[str, Any]:
        """Return it as Grafana's file."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": [TAG],
            "schemaVersion": SCHEMA_VERSION,
            "editable": False,
            "graphTooltip": 1,
            "timezone": "browser",
            "refresh": "1m",
            "time": {"from": self.since, "to": "now"},
            "links": [_LINKS],
            "annotations": {"list": [_BUILT_IN, *(one.as_json() for one in ANNOTATIONS)]},
            "templating": {"list": [one.as_json() for one in (HOST, *self.variables)]},
            "panels": list(self._panels()),
        }

    def number(self, title: str) -> int:
        """Return the id of the panel with that title."""
        [found] = [panel["id"] for panel in self._panels() if panel["type"] != "row" and panel["title"] == title]
        return int(found)

    def _panels(self) -> Iterator[Mapping[str, Any]]:
        number, y = 0, 0
        for row in self.rows:
            if row.title:
                number += 1
                place = {"h": 1, "w": COLUMNS, "x": 0, "y": y}
                yield {
                    "id": number,
                    "type": "row",
                    "title": row.title,
                    "collapsed": False,
                    "gridPos": place,
                    "panels": [],
                }
                y += 1
            x = tallest = 0
            for panel in row.panels:
                if x + panel.width > COLUMNS:
                    x, y, tallest = 0, y + tallest, 0
                number += 1
                yield panel.as_json(number, x, y)
                x, tallest = x + panel.width, max(tallest, panel.height)
            y += tallest


_LINKS = {
    "type": "dashboards",
    "title": "homelab",
    "tags": [TAG],
    "asDropdown": False,
    "includeVars": True,
    "keepTime": True,
    "targetBlank": False,
    "icon": "external link",
    "tooltip": "",
    "url": "",
}
_BUILT_IN = {
    "builtIn": 1,
    "datasource": GRAFANA,
    "enable": True,
    "hide": True,
    "iconColor": "rgba(0, 211, 255, 1)",
    "name": "Annotations & Alerts",
    "type": "dashboard",
}
