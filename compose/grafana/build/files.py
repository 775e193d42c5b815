"""All files that are made: their place under compose/grafana, and their text."""

from __future__ import annotations

import json
from collections.abc import Mapping

from compose.grafana.build import alert, document
from compose.grafana.build.boards import BOARDS
from compose.grafana.build.rules import GROUPS

_MADE = "# Made by `make generate` from compose/grafana/build/rules; what is changed here is lost.\n"


def files() -> Mapping[str, str]:
    """Return the text of every file by its place."""
    found = {
        f"dashboards/{board.name}.json": json.dumps(board.as_json(), indent=1, ensure_ascii=False) + "\n"
        for board in BOARDS
    }
    found["provisioning/alerting/homelab.yaml"] = _MADE + document.written(alert.as_file(GROUPS))
    return found
