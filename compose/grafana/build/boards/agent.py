"""Agent: whether samples come in time and arrive, what the agent itself uses, and how its checks stand."""

from __future__ import annotations

from compose.grafana.build import age
from compose.grafana.build.boards import events, trouble
from compose.grafana.build.dashboard import Dashboard, Row
from compose.grafana.build.panel import GREEN, GREY, ORANGE, RED, above
from compose.grafana.build.shapes import BARS, NOT_SAMPLED, chart, column, logs, number, table, words
from compose.grafana.build.sql import HOSTS, Measure

COLLECTORS = f"""SELECT known.host AS "Host", collector.key AS "Collector", collector.value ->> 0 AS "Status",
       (collector.value ->> 1)::double precision AS "Took"
  FROM (SELECT DISTINCT host FROM homelab.entity WHERE host IN ({HOSTS})) AS known
 CROSS JOIN LATERAL (
       SELECT tick.collectors FROM homelab.tick
        WHERE tick.host = known.host AND tick.time <= $__timeTo()
          AND tick.time > $__timeTo()::timestamptz - INTERVAL '3 hours'
        ORDER BY tick.time DESC LIMIT 1) AS newest
 CROSS JOIN LATERAL jsonb_each(newest.collectors) AS collector
 ORDER BY 4 DESC NULLS LAST"""
STANDING = f"""SELECT host AS "Host", check_name AS "Check", state AS "State", expected AS "Announced",
       since AS "Since",
       detail AS "Detail", repair AS "Repair"
  FROM {age.STANDING} WHERE host IN ({HOSTS})
 ORDER BY needs_you DESC, state = 'failed' DESC, state = 'degraded' DESC, 1, 2"""

FIRST = Row(
    "",
    [
        number(
            "Newest sample of the most silent host",
            "Asked of the database: true also when no agent runs.",
            f"SELECT max(seconds) AS value FROM (\n{trouble.AGE}\n) AS age",
            empty="No host has sampled within 30 days",
            unit="s",
            decimals=0,
            thresholds=above(120, 300),
            width=6,
        ),
        number(
            "Checks that need you",
            "As the agents say. The table below names them, with what mends them.",
            f"SELECT count(*)::integer AS value FROM {age.STANDING} WHERE needs_you AND host IN ({HOSTS})",
            empty="No agent has told",
            thresholds=above(1, 1),
            width=6,
        ),
        number(
            "Database",
            "What the whole database takes on its disk. homelab-agent db info says of what.",
            "SELECT pg_database_size(current_database())::double precision AS value",
            empty="The database does not answer",
            unit="bytes",
            width=6,
        ),
        number(
            "Starts in this range",
            "Of agents. One that comes back by itself again and again: journalctl -u homelab-agent.",
            f"SELECT count(*)::integer AS value FROM homelab.agent_start WHERE $__timeFilter(time) AND host IN"
            f" ({HOSTS})",
            empty="The database does not answer",
            thresholds=above(3, 10),
            width=6,
        ),
        table(
            "Checks",
            "How each check stands, what needs you first; without it, all that is known. The same in words:"
            " homelab-agent status.",
            STANDING,
            empty="No agent has told yet: homelab-agent status",
            width=24,
            height=10,
            overrides=[
                words(
                    "State",
                    {"failed": RED, "degraded": ORANGE, "ok": GREEN, "disabled": GREY, "not_available": GREY},
                ),
                column("Since", "dateTimeFromNow"),
            ],
        ),
    ],
)
TICKS = Row(
    "Samples",
    [
        chart(
            "Late",
            "How late samples were taken. Seconds: the host had no time for the agent, or slept.",
            "tick",
            {"mean": Measure("late_ms"), "most": Measure("late_ms", "max", alone=True)},
            unit="ms",
            thresholds=above(1000, 5000),
        ),
        chart(
            "How long a sample takes",
            "All collectors of a tick together. One that hangs is in the table beside.",
            "tick",
            {"mean": Measure("total_ms"), "most": Measure("total_ms", "max", alone=True)},
            unit="ms",
            thresholds=above(1000, 5000),
        ),
        table(
            "Collectors",
            "Of the newest sample in the range, the slowest first. What does not answer is left out until it does.",
            COLLECTORS,
            empty=NOT_SAMPLED + "; samples older than 30 days are known as means only",
            overrides=[
                words("Status", {"ok": GREEN, "not_available": GREY, "skipped": GREY, "stuck": RED, "timeout": ORANGE}),
                column("Took", "ms", above(100, 1000)),
            ],
        ),
        chart(
            "Samples missed",
            "That were due and not taken: the agent was held up or the host slept.",
            "tick",
            {"missed": Measure("skipped", "sum")},
            where="{skipped} > 0",
            empty="None was missed in this range",
            custom=BARS,
            thresholds=above(1, 60),
            decimals=0,
        ),
        chart(
            "Clock set",
            "By how many seconds the wall clock was set, forward or back.",
            "tick",
            {"forward": Measure("step_s", "max"), "back": Measure("step_s", "min")},
            unit="s",
        ),
        chart(
            "Clock synchronised",
            "1: by the kernel's own word. 0 for hours: timedatectl timesync-status, or chronyc tracking.",
            "tick",
            {"synchronised": Measure("clock_synchronised", "always")},
            minimum=0,
            maximum=1,
            decimals=0,
        ),
    ],
)
SHIPPING = Row(
    "On the way to PostgreSQL",
    [
        chart(
            "Rows that wait",
            "In the spool. A saw-tooth is how it should be; a slope is PostgreSQL that does not take them.",
            "agent",
            {"rows": Measure("spool_rows", "max")},
            thresholds=above(5000, 50_000),
        ),
        chart(
            "Waiting on disk",
            "Bytes of the spool. At the bound (agent.spool_max_bytes) the oldest samples are thinned.",
            "agent",
            {"bytes": Measure("spool_bytes", "max")},
            unit="bytes",
            thresholds=above(16_777_216, 100_663_296),
        ),
        chart(
            "PostgreSQL answers in",
            "The shortest question. A hole is an outage.",
            "agent",
            {"mean": Measure("database_ms"), "most": Measure("database_ms", "max", alone=True)},
            unit="ms",
            thresholds=above(50, 500),
        ),
        table(
            "Rows that were given up",
            "Between which times, how many, and why. There should be none.",
            f"""SELECT from_at AS "When", to_at AS "Until", host AS "Host", rows AS "Rows", cause AS "Why"
  FROM homelab.gap WHERE to_at > $__timeFrom() AND from_at < $__timeTo() AND host IN ({HOSTS})
 ORDER BY 1 DESC LIMIT 100""",
            empty="None was given up",
            overrides=[
                column("When", "dateTimeAsLocal"),
                column("Until", "dateTimeAsLocal"),
                column("Rows", "short", above(1, 1000)),
            ],
        ),
    ],
)
ITSELF = Row(
    "The agent itself",
    [
        chart(
            "Its memory",
            "Resident, of the agent's process.",
            "agent",
            {"memory": Measure("rss_bytes", "max")},
            unit="bytes",
            thresholds=above(157_286_400, 314_572_800),
        ),
        chart(
            "Its CPU",
            "In per cent of one core.",
            "agent",
            {"cpu": Measure("cpu_pct")},
            unit="percent",
            thresholds=above(10, 50),
        ),
        chart(
            "What it writes",
            "Bytes a second that it makes the disks write; an SD card lives from little.",
            "agent",
            {"written": Measure("written_bytes_per_s")},
            unit="binBps",
            thresholds=above(10_240, 1_048_576),
        ),
        chart(
            "Threads and open files",
            "Numbers that only grow are a leak.",
            "agent",
            {"threads": Measure("threads", "max"), "open files": Measure("open_files", "max")},
            thresholds=above(200, 800),
            decimals=0,
        ),
        table(
            "Starts",
            "When agents began, of which version, and since when their host is up.",
            events.newest("agent_start", "time", 'host AS "Host", version AS "Version", boot_at AS "Host up since"'),
            empty="None began in this range",
            overrides=[column("When", "dateTimeAsLocal"), column("Host up since", "dateTimeAsLocal")],
        ),
        table(
            "Secrets that changed",
            "Each new value, and what became of it; never the value. Refused: who uses it could not log in with it.",
            events.newest(
                "secret_change",
                "at",
                'host AS "Host", reference AS "Secret", version AS "Version", outcome AS "Outcome", cause AS "Why"',
            ),
            empty="None changed in this range",
            component="secrets",
            overrides=[
                words("Outcome", {"adopted": GREEN, "refused": RED, "incomplete": ORANGE}),
                column("When", "dateTimeAsLocal"),
            ],
        ),
        logs(
            "What needed somebody",
            "Each change of health: what needs you, and what has recovered.",
            '{job=~".+", host=~"${host:regex}", component="health"} | json | line_format'
            ' "{{.event}} {{.check}}: {{.detail}} {{.repair}}"',
            empty="Nothing changed in this range",
            component="health",
        ),
    ],
)
BOARD = Dashboard(
    name="agent",
    title="Agent",
    description="Whether samples come in time and arrive, what the agent uses, how its checks stand.",
    rows=[FIRST, TICKS, SHIPPING, ITSELF],
)
