"""What is chosen at the top of a dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compose.grafana.build.datasource import POSTGRES


@dataclass(frozen=True, slots=True)
class Variable:
    """Any number of what a query finds, or all of it."""

    name: str
    label: str
    query: str

    def as_json(self) -> Mapping[str, Any]:
        """Return the variable."""
        return {
            "name": self.name,
            "label": self.label,
            "type": "query",
            "datasource": POSTGRES,
            "definition": self.query,
            "query": self.query,
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "hide": 0,
            "regex": "",
            "options": [],
            "skipUrlSync": False,
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        }


@dataclass(frozen=True, slots=True)
class Fixed(Variable):
    """Any number of words that are known before, with commas between; `every` is the pattern of all."""

    every: str = ".*"

    def as_json(self) -> Mapping[str, Any]:
        """Return the variable."""
        options = [{"selected": False, "text": word, "value": word} for word in self.query.split(",")]
        everything = {"selected": True, "text": "All", "value": "$__all"}
        return {
            "name": self.name,
            "label": self.label,
            "type": "custom",
            "query": self.query,
            "multi": True,
            "includeAll": True,
            "allValue": self.every,
            "hide": 0,
            "options": [everything, *options],
            "skipUrlSync": False,
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        }


@dataclass(frozen=True, slots=True)
class Text(Variable):
    """What is typed."""

    def as_json(self) -> Mapping[str, Any]:
        """Return the variable."""
        empty = {"selected": True, "text": self.query, "value": self.query}
        return {
            "name": self.name,
            "label": self.label,
            "type": "textbox",
            "query": self.query,
            "hide": 0,
            "options": [empty],
            "skipUrlSync": False,
            "current": empty,
        }


HOST = Variable("host", "Host", "SELECT DISTINCT host FROM homelab.entity ORDER BY 1")
