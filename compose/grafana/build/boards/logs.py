"""Logs: what the agents, the system and the containers said, at the time that another dashboard has shown."""

from __future__ import annotations

from compose.grafana.build.dashboard import Dashboard, Row
from compose.grafana.build.panel import Panel, Query, above
from compose.grafana.build.shapes import BARS, logs
from compose.grafana.build.variable import Fixed, Text

COMPONENTS = (
    "agent,backup,config,database,gate,gitops,health,jobs,metrics,notify,privileged,reading,secrets,shipper,spool,"
    "supervisor,watchdog,web,system,container"
)
SELECTED = '{job=~".+", host=~"${host:regex}", component=~"${component:regex}"} |~ `(?i)${search:regex}`'
OURS = '{job=~".+", host=~"${host:regex}", component=~"${component:regex}", component!~"system|container"}'
NOTHING = "Nothing was said in this range, or it has not come: make stack-logs, and homelab-agent doctor stack"

BOARD = Dashboard(
    name="logs",
    title="Logs",
    description="What the agents, the system and the containers said.",
    variables=[
        Fixed("component", "Component", COMPONENTS, every=".+"),
        Fixed("level", "Level", "debug,info,warning,error,critical"),
        Text("search", "Contains", ""),
    ],
    since="now-6h",
    rows=[
        Row(
            "",
            [
                Panel(
                    title="Lines by component",
                    description="Who speaks how much. One that is suddenly loud has trouble.",
                    empty=NOTHING,
                    queries=[
                        Query(
                            f"sum by (component) (count_over_time({SELECTED} [$__interval]))",
                            is_logs=True,
                            legend="{{component}}",
                        )
                    ],
                    custom={**BARS, "stacking": {"mode": "normal", "group": "A"}},
                    interval="1m",
                    decimals=0,
                ),
                Panel(
                    title="Lines of the agents by level",
                    description="Warnings and errors are what to look at.",
                    empty=NOTHING,
                    queries=[
                        Query(
                            f"sum by (level) (count_over_time({OURS} | json level [$__interval]))",
                            is_logs=True,
                            legend="{{level}}",
                        )
                    ],
                    custom={**BARS, "stacking": {"mode": "normal", "group": "A"}},
                    thresholds=above(1000, 100_000),
                    interval="1m",
                    decimals=0,
                ),
                logs(
                    "Warnings and errors of the agents",
                    "The newest first. Each says what mends it, where something does.",
                    f'{OURS} | json | level=~"warning|error|critical" | level=~"${{level:regex}}"',
                    empty="Nothing to complain about in this range",
                ),
                logs(
                    "What the agents said",
                    "Open a line for its fields: run_id leads to all of one run, request_id to all of one request.",
                    f'{OURS} |~ `(?i)${{search:regex}}` | json | level=~"${{level:regex}}"',
                    empty=NOTHING,
                ),
                logs(
                    "Errors of the system",
                    "Of the kernel and of systemd's units, by the severity that they gave themselves.",
                    '{job=~".+", host=~"${host:regex}", component="system"}'
                    ' | priority=~"emerg|alert|crit|err|error" |~ `(?i)${search:regex}`',
                    empty="The system has no error in this range",
                ),
                logs(
                    "Everything",
                    "Also the system (component system) and the containers (component container); their unit and"
                    " container are among the fields of each line.",
                    SELECTED,
                    empty=NOTHING,
                ),
            ],
        )
    ],
)
