"""What happened, drawn over every chart: deploys, openings of the door, backups, restarts, and when nobody sampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compose.grafana.build.datasource import POSTGRES
from compose.grafana.build.sql import HOSTS


@dataclass(frozen=True, slots=True)
class Annotation:
    """Events of one kind: SQL with columns time, timeend, text and tags."""

    name: str
    colour: str
    query: str
    enabled: bool = True

    def as_json(self) -> Mapping[str, Any]:
        """Return the annotation."""
        target = {
            "datasource": POSTGRES,
            "editorMode": "code",
            "format": "table",
            "rawQuery": True,
            "rawSql": self.query,
            "refId": "Anno",
        }
        return {
            "name": self.name,
            "datasource": POSTGRES,
            "enable": self.enabled,
            "hide": False,
            "iconColor": self.colour,
            "target": target,
        }


def _within(begin: str, end: str) -> str:
    return f"{begin} <= $__timeTo() AND {end} >= $__timeFrom() AND host IN ({HOSTS})"


ANNOTATIONS = (
    Annotation(
        "Deploys",
        "blue",
        "SELECT started_at AS time, ended_at AS timeend, repository || ' ' || left(from_sha, 8) || ' to ' ||"
        " left(to_sha, 8) || ': ' || state || ' ' || detail AS text, 'deploy,' || host AS tags\n"
        "  FROM homelab.gitops_move\n"
        f" WHERE {_within('started_at', 'ended_at')}\n ORDER BY 1 DESC LIMIT 200",
    ),
    Annotation(
        "Door open",
        "purple",
        "SELECT opened_at AS time, closed_at AS timeend, 'open to the internet: ' || opened_why || '; shut: ' ||"
        " closed_why || '; ' || requests || ' requests' AS text, 'gate,' || host AS tags\n"
        "  FROM homelab.gate_exposure\n"
        f" WHERE {_within('opened_at', 'closed_at')}\n ORDER BY 1 DESC LIMIT 200",
    ),
    Annotation(
        "Backups",
        "green",
        "SELECT started_at AS time, ended_at AS timeend, set_name || ' at ' || engine || ': ' || state || ' ' || detail"
        " AS text, 'backup,' || host AS tags\n"
        "  FROM homelab.backup_run\n"
        f" WHERE {_within('started_at', 'ended_at')}\n ORDER BY 1 DESC LIMIT 200",
    ),
    Annotation(
        "Agent starts",
        "orange",
        "SELECT time, 'agent ' || version || ' began' AS text, 'agent,' || host AS tags\n"
        "  FROM homelab.agent_start\n"
        f" WHERE {_within('time', 'time')}\n ORDER BY 1 DESC LIMIT 200",
    ),
    Annotation(
        "No samples",
        "rgba(150, 150, 150, 0.6)",
        "SELECT from_at AS time, to_at AS timeend, 'no samples: ' || cause AS text, 'silence,' || host AS tags\n"
        "  FROM homelab.silence\n"
        f" WHERE {_within('from_at', 'to_at')}\n ORDER BY 1 DESC LIMIT 200",
    ),
)
