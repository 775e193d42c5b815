"""The alert rules, by what they are about."""

from __future__ import annotations

from compose.grafana.build.alert import Group
from compose.grafana.build.rules import agent, hardware, host, work

GROUPS = (
    Group("agent", "1m", agent.RULES),
    Group("host", "1m", host.RULES),
    Group("hardware", "5m", hardware.RULES),
    Group("work", "5m", work.RULES),
)
