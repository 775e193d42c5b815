"""Overview: is all well, and if not, what."""

from __future__ import annotations

from compose.grafana.build.boards import events, trouble
from compose.grafana.build.dashboard import Dashboard, Row
from compose.grafana.build.panel import GREEN, GREY, ORANGE, RED, Override, Panel, Query, Step, above, below
from compose.grafana.build.shapes import NOT_SAMPLED, chart, column, logs, number, said, table, words
from compose.grafana.build.sql import HOSTS, Measure

STATES = words("State", {"failed": RED, "degraded": ORANGE, "ok": GREEN, "interrupted": ORANGE, "rolled_back": ORANGE})
OLDEST_COPY = f"""SELECT extract(epoch FROM now() - min(newest)) AS value FROM (
  SELECT max(ended_at) AS newest FROM homelab.backup_run
   WHERE state = 'ok' AND host IN ({HOSTS}) AND ended_at > now() - INTERVAL '400 days' GROUP BY host,
       set_name) AS of_set"""


def _now(family: str, aggregate: str, within: str) -> str:
    """Return the SQL of one value of a host, made of the newest row of each of its entities."""
    return (
        f"(SELECT {aggregate} FROM homelab.entity CROSS JOIN LATERAL (\n"
        f"          SELECT * FROM homelab.{family}_sample AS sample WHERE sample.entity_id = entity.id\n"
        f"             AND sample.time > now() - INTERVAL '{within}' ORDER BY sample.time DESC LIMIT 1) AS newest\n"
        f"         WHERE entity.family = '{family}' AND entity.host = age.host)"
    )


FULLEST = _now("filesystem", "max(newest.used_pct)", "30 minutes")
FULL_IN = f"""SELECT min(newest.full_in_d) AS value FROM homelab.entity CROSS JOIN LATERAL (
  SELECT full_in_d FROM homelab.forecast_sample AS sample WHERE sample.entity_id = entity.id
     AND sample.time > now() - INTERVAL '3 hours' ORDER BY sample.time DESC LIMIT 1) AS newest
 WHERE entity.family = 'forecast' AND entity.host IN ({HOSTS})"""
TABLE = f"""SELECT age.host AS "Host", age.seconds AS "Last sample",
       {_now("cpu", "max(newest.busy_pct)", "10 minutes")} AS "CPU",
       {_now("memory", "max(newest.used_pct)", "10 minutes")} AS "Memory",
       {FULLEST} AS "Fullest disk",
       {_now("forecast", "min(newest.full_in_d)", "3 hours")} AS "Full in",
       {_now("temperature", "max(newest.celsius)", "30 minutes")} AS "Hottest",
       {_now("unit", "count(*) FILTER (WHERE newest.failed)", "2 hours")} AS "Failed units",
       {_now("agent", "max(newest.spool_rows)", "10 minutes")} AS "Rows waiting",
       {_now("agent", "max(newest.database_ms)", "10 minutes")} AS "PostgreSQL",
       {_now("load", "max(newest.uptime_s)", "10 minutes")} AS "Up for"
  FROM (
  {trouble.AGE}
) AS age
 ORDER BY 1"""
SILENCE = f"""SELECT time, metric, max(value) AS value FROM (
SELECT $__timeFrom()::timestamptz AS time, host AS metric, 0 AS value
  FROM homelab.entity WHERE host IN ({HOSTS}) GROUP BY host
 UNION ALL
SELECT greatest(from_at, $__timeFrom()::timestamptz), host,
       CASE cause WHEN 'host off' THEN 1 WHEN 'agent down' THEN 2 WHEN 'suspended' THEN 3 ELSE 4 END
  FROM homelab.silence WHERE to_at > $__timeFrom() AND from_at < $__timeTo() AND host IN ({HOSTS})
 UNION ALL
SELECT to_at, host, 0 FROM homelab.silence
 WHERE to_at > $__timeFrom() AND to_at < $__timeTo() AND host IN ({HOSTS})
) AS change
 GROUP BY 1, 2 ORDER BY 1, 2"""

FIRST = Row(
    "",
    [
        number(
            "Needs you",
            "How many things are wrong now: hosts that are silent, and checks of the agents that are failed or"
            " degraded without having been announced. The table below names each, with what mends it.",
            trouble.COUNT,
            empty="The database does not answer",
            thresholds=above(1, 1),
            mappings=said({"0": ("All is well", GREEN)}),
            width=6,
        ),
        number(
            "Newest sample of the most silent host",
            "Asked of the database, so it is true also when no agent runs. Over 5 minutes: host off, agent down, or"
            " the agent does not reach PostgreSQL.",
            f"SELECT max(seconds) AS value FROM (\n{trouble.AGE}\n) AS age",
            empty="No host has sampled within 30 days",
            unit="s",
            decimals=0,
            thresholds=above(120, 300),
        ),
        number(
            "Oldest last backup",
            "How long ago the set went well that waits longest. Which it is: dashboard Backups.",
            OLDEST_COPY,
            empty="No backup yet: homelab-agent backup plan",
            unit="s",
            thresholds=above(36 * 3600, 72 * 3600),
        ),
        number(
            "First disk is full in",
            "By how the last four weeks went. Which it is: dashboard Storage.",
            FULL_IN,
            empty="Not within ten years, or not known yet (it takes ten days)",
            unit="d",
            decimals=0,
            thresholds=below(2, 14),
        ),
        Panel(
            title="Alerts that fire",
            description="Of the rules in folder homelab. Each has its cause and the command that mends it.",
            empty="Nothing fires",
            kind="alertlist",
            width=6,
            height=4,
        ),
        table(
            "What is wrong, and what mends it",
            "Failures first, the oldest first. Repair is a command on that host, or a key of its configuration.",
            trouble.TABLE,
            empty="All is well",
            width=24,
            height=7,
            overrides=[
                STATES,
                column("State", width=90),
                column("Host", width=120),
                column("What", width=190),
                column("Since", "dateTimeFromNow", width=140),
                Override("Repair", {"custom.cellOptions": {"type": "auto", "wrapText": True}}),
            ],
        ),
        table(
            "Hosts",
            "How each host stands now. Click a host for its dashboard.",
            TABLE,
            empty=NOT_SAMPLED,
            width=24,
            height=6,
            overrides=[
                column(
                    "Host",
                    links=[
                        {
                            "title": "Its dashboard",
                            "url": "/d/homelab-host/host?var-host=${__value.raw:percentencode}&${__url_time_range}",
                        }
                    ],
                ),
                column("Last sample", "s", above(120, 300), decimals=0),
                column("CPU", "percent", above(75, 90), decimals=0),
                column("Memory", "percent", above(80, 90), decimals=0),
                column("Fullest disk", "percent", above(85, 95), decimals=0),
                column("Full in", "d", below(2, 14), decimals=0),
                column("Hottest", "celsius", above(75, 90), decimals=0),
                column("Failed units", "short", above(1, 1)),
                column("Rows waiting", "short", above(5000, 50000)),
                column("PostgreSQL", "ms", above(50, 500), decimals=1),
                column("Up for", "s", decimals=0),
            ],
        ),
    ],
)
TREND = Row(
    "How it went",
    [
        Panel(
            title="When there were samples",
            description="Grey: there are; else why not, as the agent found when it was back.",
            empty=NOT_SAMPLED,
            queries=[Query(SILENCE)],
            kind="state-timeline",
            width=24,
            height=5,
            thresholds=[Step(GREY), Step(ORANGE, 1)],
            mappings=said(
                {
                    "0": ("sampled", "super-light-green"),
                    "1": ("host off", GREY),
                    "2": ("agent down", RED),
                    "3": ("suspended", "blue"),
                    "4": ("held up or clock set", ORANGE),
                }
            ),
        ),
        chart(
            "CPU",
            "Share of time that the cores worked. All day over 90 %: dashboard Host says on what.",
            "cpu",
            {"busy": Measure("busy_pct")},
            unit="percent",
            thresholds=above(75, 90),
            minimum=0,
        ),
        chart(
            "Memory",
            "What programs hold and the kernel could not give away.",
            "memory",
            {"used": Measure("used_pct")},
            unit="percent",
            thresholds=above(80, 90),
            minimum=0,
            maximum=100,
        ),
        chart(
            "Filesystems",
            "How full each is, of what an ordinary user may fill.",
            "filesystem",
            {"used": Measure("used_pct", "max")},
            by="label",
            unit="percent",
            thresholds=above(85, 95),
            minimum=0,
            maximum=100,
            interval="1m",
        ),
        chart(
            "Temperatures",
            "The warmest that each sensor was. Limits of its own are on dashboard Host.",
            "temperature",
            {"warm": Measure("celsius", "max")},
            by="label",
            empty="No sensor here, as in most virtual machines",
            unit="celsius",
            thresholds=above(75, 90),
            interval="1m",
        ),
    ],
)
HAPPENED = Row(
    "What happened",
    [
        table(
            "Runs that did not go well",
            "Jobs of the agent in this range that failed, were cut short or took too long. Again by hand:"
            " homelab-agent jobs run JOB.",
            events.newest(
                "job_run",
                "ended_at",
                'host AS "Host", job AS "Job", state AS "State", detail AS "Why", repair AS "Repair"',
                where="state NOT IN ('ok', 'cancelled')",
            ),
            empty="All went well in this range",
            overrides=[STATES, column("When", "dateTimeAsLocal", width=160)],
        ),
        table(
            "Deployments",
            "The newest in this range. What their actions printed: homelab-agent gitops show RUN.",
            events.newest(
                "gitops_move",
                "ended_at",
                'host AS "Host", repository AS "Repository", left(to_sha, 10) AS "Commit", state AS "State",'
                ' detail AS "Detail"',
            ),
            empty="Nothing was deployed in this range",
            component="gitops",
            overrides=[STATES, column("When", "dateTimeAsLocal", width=160)],
        ),
        logs(
            "Warnings and errors of the agents",
            "What the agents found worth saying, the newest first.",
            '{job=~".+", host=~"${host:regex}", component!~"system|container"} | json'
            ' | level=~"warning|error|critical"',
            empty="Nothing to complain about in this range",
        ),
    ],
)
BOARD = Dashboard(
    name="overview",
    title="Overview",
    description="Is all well, and if not, what?",
    rows=[FIRST, TREND, HAPPENED],
)
