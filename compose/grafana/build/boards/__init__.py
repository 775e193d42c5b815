"""The dashboards, in the order in which their links are read."""

from __future__ import annotations

from compose.grafana.build.boards import (
    agent,
    backups,
    containers,
    gate,
    gitops,
    host,
    logs,
    overview,
    reading,
    storage,
)

BOARDS = (
    overview.BOARD,
    host.BOARD,
    storage.BOARD,
    containers.BOARD,
    agent.BOARD,
    gitops.BOARD,
    gate.BOARD,
    reading.BOARD,
    backups.BOARD,
    logs.BOARD,
)
