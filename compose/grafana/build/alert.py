"""An alert rule: SQL that says a number of each subject, and from which number on somebody should know.

What a rule does where there is nothing, and where it cannot ask, is chosen for each:

- No rows mean that no host has such a thing (no array, no container), so that nothing is wrong: OK. Only the rule of
  the newest sample alarms then: a database that no agent has ever written to is not the one that agents write to.
- While PostgreSQL does not answer, fifty rules would alarm for one cause. So one says it, the rule of the newest
  sample; the others keep the state that they had, so that what was wrong does not count as mended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compose.grafana.build.boards import BOARDS
from compose.grafana.build.datasource import EXPRESSION, POSTGRES

FOLDER = "homelab"
OK, KEEP, ALERTING = "OK", "KeepLast", "Alerting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. `sql` has columns of text, which become the alert's labels, and one number called value.

    `over` or `under` is the number beyond which it fires, `during` for how long that must be so. `summary`, `cause` and
    `repair` are templates of the alert: {{ .Labels.host }}; a dollar sign would be taken for a variable when read.
    `checks` are those of the agent's, and their parts, that say the same: the rule of failed checks leaves them out.
    """

    name: str
    title: str
    sql: str
    over: float | None = None
    under: float | None = None
    during: str = "5m"
    severity: str = "warning"
    summary: str
    cause: str
    repair: str
    board: str
    panel: str
    checks: Sequence[str] = ()
    no_data: str = OK
    on_error: str = KEEP

    @property
    def uid(self) -> str:
        """What Grafana knows it by."""
        return f"homelab-{self.name}"

    def fires(self, value: float | None) -> bool:
        """Return whether a value is beyond the threshold."""
        if value is None:
            return False
        return value > self.over if self.over is not None else self.under is not None and value < self.under

    def as_json(self) -> Mapping[str, Any]:
        """Return the rule as Grafana's file has it."""
        [board] = [one for one in BOARDS if one.name == self.board]
        return {
            "uid": self.uid,
            "title": self.title,
            "condition": "B",
            "data": [self._query(), self._threshold()],
            "dashboardUid": board.uid,
            "panelId": board.number(self.panel),
            "noDataState": self.no_data,
            "execErrState": self.on_error,
            "for": self.during,
            "annotations": {"summary": self.summary, "description": self.cause, "repair": self.repair},
            "labels": {"severity": self.severity, "source": "homelab-agent"},
            "isPaused": False,
        }

    def _query(self) -> Mapping[str, Any]:
        model = {
            "refId": "A",
            "datasource": POSTGRES,
            "editorMode": "code",
            "format": "table",
            "rawQuery": True,
            "rawSql": self.sql,
            "intervalMs": 60000,
            "maxDataPoints": 1000,
        }
        within = {"from": 3600, "to": 0}
        return {"refId": "A", "relativeTimeRange": within, "datasourceUid": POSTGRES["uid"], "model": model}

    def _threshold(self) -> Mapping[str, Any]:
        if (self.over is None) == (self.under is None):
            message = f"{self.name} needs one threshold, over or under"
            raise ValueError(message)
        evaluator = (
            {"type": "gt", "params": [self.over]} if self.over is not None else {"type": "lt", "params": [self.under]}
        )
        model = {
            "refId": "B",
            "datasource": EXPRESSION,
            "type": "threshold",
            "expression": "A",
            "conditions": [{"evaluator": evaluator}],
        }
        within = {"from": 0, "to": 0}
        return {"refId": "B", "relativeTimeRange": within, "datasourceUid": EXPRESSION["uid"], "model": model}


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are asked together, every `interval`."""

    name: str
    interval: str
    rules: Sequence[Rule]


def as_file(groups: Sequence[Group]) -> Mapping[str, Any]:
    """Return Grafana's provisioning file."""
    return {
        "apiVersion": 1,
        "groups": [
            {
                "orgId": 1,
                "name": group.name,
                "folder": FOLDER,
                "interval": group.interval,
                "rules": [rule.as_json() for rule in group.rules],
            }
            for group in groups
        ],
    }
