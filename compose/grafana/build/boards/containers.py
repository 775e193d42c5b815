"""Containers: what Docker's containers use, and which begin anew."""

from __future__ import annotations

from compose.grafana.build.boards import events
from compose.grafana.build.dashboard import Dashboard, Row
from compose.grafana.build.panel import above
from compose.grafana.build.shapes import BARS, STACKED, chart, column, logs, number, table
from compose.grafana.build.sql import HOSTS, Measure
from compose.grafana.build.variable import Variable

NONE = "No container here, or Docker was not seen: homelab-agent metrics sample"
CHOSEN = "label IN (${container:sqlstring})"
CONTAINER = Variable(
    "container",
    "Container",
    f"SELECT DISTINCT label FROM homelab.entity WHERE family = 'container' AND host IN ({HOSTS}) ORDER BY 1",
)
NEWEST = f"""  FROM homelab.entity CROSS JOIN LATERAL (
       SELECT * FROM homelab.container_sample AS sample
        WHERE sample.entity_id = entity.id AND sample.time <= $__timeTo()
          AND sample.time > $__timeTo()::timestamptz - INTERVAL '15 minutes'
        ORDER BY sample.time DESC LIMIT 1) AS newest
 WHERE entity.family = 'container' AND entity.host IN ({HOSTS}) AND entity.{CHOSEN}"""
TABLE = f"""SELECT entity.host AS "Host", entity.label AS "Container", newest.image AS "Image", newest.cpu_pct AS "CPU",
       newest.memory_bytes AS "Memory", newest.memory_pct AS "Of its limit", newest.restarts AS "Restarts",
       newest.oom_kills AS "Killed for memory", newest.read_bytes_per_s AS "Read",
       newest.written_bytes_per_s AS "Written"
{NEWEST}
 ORDER BY newest.memory_bytes DESC NULLS LAST"""

NOW = Row(
    "",
    [
        number(
            "Containers that run",
            "At the end of the range.",
            f"SELECT count(*)::integer AS value\n{NEWEST}",
            empty=NONE,
            width=6,
        ),
        number(
            "CPU of all",
            "In per cent of one core.",
            f"SELECT sum(newest.cpu_pct) AS value\n{NEWEST}",
            empty=NONE,
            unit="percent",
            decimals=0,
            thresholds=above(200, 400),
            width=6,
        ),
        number(
            "Memory of all",
            "Without files that were not read lately, as docker stats has it.",
            f"SELECT sum(newest.memory_bytes)::double precision AS value\n{NEWEST}",
            empty="A Raspberry Pi does not count it without cgroup_enable=memory",
            unit="bytes",
            width=6,
        ),
        number(
            "Nearest to its limit",
            "At 100 % the kernel kills a process in it.",
            f"SELECT max(newest.memory_pct) AS value\n{NEWEST}",
            empty="No container here has a limit of memory",
            unit="percent",
            decimals=0,
            thresholds=above(80, 95),
            width=6,
        ),
        table(
            "Containers",
            "As at the end of the range, the largest first. Restarts are counted since the agent began to look:"
            " docker logs --tail 50 NAME says why.",
            TABLE,
            empty=NONE,
            width=24,
            height=10,
            overrides=[
                column("CPU", "percent", decimals=1),
                column("Memory", "bytes"),
                column("Of its limit", "percent", above(80, 95), decimals=0),
                column("Restarts", "short", above(3, 10)),
                column("Killed for memory", "short", above(1, 1)),
                column("Read", "binBps"),
                column("Written", "binBps"),
            ],
        ),
    ],
)
USE = Row(
    "What they use",
    [
        chart(
            "CPU",
            "In per cent of one core, one upon the other.",
            "container",
            {"cpu": Measure("cpu_pct")},
            by="label",
            where=CHOSEN,
            empty=NONE,
            unit="percent",
            minimum=0,
            custom=STACKED,
        ),
        chart(
            "Memory",
            "One upon the other. One that only grows leaks.",
            "container",
            {"memory": Measure("memory_bytes")},
            by="label",
            where=CHOSEN,
            empty="A Raspberry Pi does not count it without cgroup_enable=memory",
            unit="bytes",
            minimum=0,
            custom=STACKED,
        ),
        chart(
            "Memory, of its limit",
            "The greatest. At 100 % the kernel kills a process in it.",
            "container",
            {"used": Measure("memory_pct", "max")},
            by="label",
            where=CHOSEN,
            empty="No container here has a limit of memory",
            unit="percent",
            thresholds=above(80, 95),
            minimum=0,
        ),
        chart(
            "Read and written",
            "To disks, not through caches; read is above, written below zero.",
            "container",
            {"read": Measure("read_bytes_per_s"), "written": Measure("written_bytes_per_s", of="-({})")},
            by="label",
            where=CHOSEN,
            empty="Control groups of version 1 count it only where a limit or the scheduler bfq is at work",
            unit="binBps",
            custom={"axisCenteredZero": True},
        ),
    ],
)
WRONG = Row(
    "What went wrong",
    [
        chart(
            "Began anew",
            "How often each has begun anew: a deployment is one, a tower is a crash loop.",
            "container",
            {"again": Measure("restarted", "sum")},
            by="label",
            where=f"{CHOSEN} AND {{restarted}} > 0",
            empty="None has begun anew in this range",
            custom=BARS,
            decimals=0,
        ),
        chart(
            "Killed for want of memory",
            "How many processes the kernel has killed in it since it began. Raise its limit, or mend the leak.",
            "container",
            {"killed": Measure("oom_kills", "max")},
            by="label",
            where=CHOSEN,
            empty="Not counted by this kernel",
            thresholds=above(1, 5),
            decimals=0,
        ),
        table(
            "Images that changed",
            "Which container runs another image than before, and since when.",
            events.newest(
                "fact",
                "since",
                'host AS "Host", key AS "Container", was AS "Was", value AS "Is"',
                where="name = 'image'",
            ),
            empty="No image changed in this range",
            overrides=[column("When", "dateTimeAsLocal")],
        ),
        logs(
            "What containers complain about",
            "Lines of containers that speak of an error, the newest first.",
            '{job=~".+", host=~"${host:regex}", component="container"} |~ `(?i)\\b(error|fatal|panic|exception)\\b`',
            empty="No container complains in this range",
            component="container",
        ),
    ],
)
BOARD = Dashboard(
    name="containers",
    title="Containers",
    description="What Docker's containers use, and which begin anew.",
    variables=[CONTAINER],
    rows=[NOW, USE, WRONG],
)
