"""Storage: how full, how fast, how well: filesystems, disks, what they say of themselves, arrays."""

from __future__ import annotations

from compose.grafana.build.dashboard import Dashboard, Row
from compose.grafana.build.panel import GREEN, ORANGE, RED, above, below
from compose.grafana.build.shapes import NOT_SAMPLED, chart, column, number, table, words
from compose.grafana.build.sql import HOSTS, Measure, latest

NO_SMART = "No disk was asked: apt install smartmontools, then homelab-agent doctor metrics"
NO_RAID = "No array of disks here (md)"


def _newest(family: str, what: str, within: str) -> str:
    return (
        f"SELECT {what} AS value FROM homelab.entity CROSS JOIN LATERAL (\n"
        f"  SELECT * FROM homelab.{family}_sample AS sample WHERE sample.entity_id = entity.id\n"
        f"     AND sample.time <= $__timeTo() AND sample.time > $__timeTo()::timestamptz - INTERVAL '{within}'\n"
        f"   ORDER BY sample.time DESC LIMIT 1) AS newest\n"
        f" WHERE entity.family = '{family}' AND entity.host IN ({HOSTS})"
    )


FILESYSTEMS = f"""SELECT entity.host AS "Host", entity.label AS "Mounted at", newest.type AS "Type",
       newest.device AS "Device",
       newest.size_bytes AS "Size", newest.available_bytes AS "Free", newest.used_pct AS "Used",
       newest.inodes_used_pct AS "Inodes", newest.read_only AS "Read-only", newest.stuck_s AS "Silent for",
       forecast.full_in_d AS "Full in", forecast.growth_bytes_per_d AS "Grows a day"
  FROM homelab.entity CROSS JOIN LATERAL (
       SELECT * FROM homelab.filesystem_sample AS sample
        WHERE sample.entity_id = entity.id AND sample.time <= $__timeTo()
          AND sample.time > $__timeTo()::timestamptz - INTERVAL '3 hours'
        ORDER BY sample.time DESC LIMIT 1) AS newest
  LEFT JOIN homelab.entity AS foreseen
    ON foreseen.host = entity.host AND foreseen.family = 'forecast' AND foreseen.label = entity.label
  LEFT JOIN LATERAL (
       SELECT * FROM homelab.forecast_sample AS sample
        WHERE sample.entity_id = foreseen.id AND sample.time <= $__timeTo()
          AND sample.time > $__timeTo()::timestamptz - INTERVAL '6 hours'
        ORDER BY sample.time DESC LIMIT 1) AS forecast ON true
 WHERE entity.family = 'filesystem' AND entity.host IN ({HOSTS})
 ORDER BY newest.used_pct DESC NULLS FIRST"""

FIRST = Row(
    "",
    [
        number(
            "Fullest filesystem",
            "Of what an ordinary user may fill.",
            _newest("filesystem", "max(newest.used_pct)", "3 hours"),
            empty=NOT_SAMPLED,
            unit="percent",
            decimals=0,
            thresholds=above(85, 95),
            width=6,
        ),
        number(
            "First is full in",
            "As its last four weeks went.",
            _newest("forecast", "min(newest.full_in_d)", "6 hours"),
            empty="Not within ten years, or not known yet (it takes ten days)",
            unit="d",
            decimals=0,
            thresholds=below(2, 14),
            width=6,
        ),
        number(
            "Disks that say that they fail",
            "By their own verdict (SMART), or with sectors that cannot be read. Back up, then replace.",
            _newest("smart", "count(*) FILTER (WHERE NOT newest.passed OR newest.pending > 0)::integer", "3 days"),
            empty=NO_SMART,
            thresholds=above(1, 1),
            width=6,
        ),
        number(
            "Disks missing in arrays",
            "An array that lacks one survives no other. cat /proc/mdstat, then mdadm --add.",
            _newest("raid", "sum(newest.missing)::integer", "3 hours"),
            empty=NO_RAID,
            thresholds=above(1, 1),
            width=6,
        ),
    ],
)
FULL = Row(
    "How full",
    [
        table(
            "Filesystems",
            "As at the end of the range, the fullest first. Read-only where it should not be: the kernel has met an"
            " error (dmesg). Silent: a network share whose server is away.",
            FILESYSTEMS,
            empty=NOT_SAMPLED,
            width=24,
            overrides=[
                column("Size", "bytes"),
                column("Free", "bytes"),
                column("Used", "percent", above(85, 95), decimals=0),
                column("Inodes", "percent", above(85, 95), decimals=0),
                column("Silent for", "s", above(1, 60)),
                column("Full in", "d", below(2, 14), decimals=0),
                column("Grows a day", "bytes"),
            ],
        ),
        chart(
            "Used",
            "Of what an ordinary user may fill. At 100 % databases stop; backups are pruned only by their own rules.",
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
            "Free",
            "Bytes that an ordinary user may still fill.",
            "filesystem",
            {"free": Measure("available_bytes", "min")},
            by="label",
            unit="bytes",
            interval="1m",
        ),
        chart(
            "Inodes used",
            "A filesystem without inodes takes no file, however much is free: many small files.",
            "filesystem",
            {"used": Measure("inodes_used_pct", "max")},
            by="label",
            empty="These filesystems do not count inodes",
            unit="percent",
            thresholds=above(85, 95),
            minimum=0,
            maximum=100,
            interval="1m",
        ),
        chart(
            "Full in",
            "How the forecast went: falling by a day a day, it holds.",
            "forecast",
            {"days": Measure("full_in_d", "min")},
            by="label",
            empty="Nothing is full within ten years, or it is not known yet (it takes ten days)",
            unit="d",
            thresholds=below(2, 14),
            interval="1h",
            custom={"spanNulls": 7_200_000, "showPoints": "auto"},
        ),
    ],
)
BUSY = Row(
    "How busy",
    [
        chart(
            "Read and written",
            "Read is above, written below zero.",
            "disk",
            {"read": Measure("read_bytes_per_s"), "written": Measure("written_bytes_per_s", of="-({})")},
            by="label",
            unit="binBps",
            custom={"axisCenteredZero": True},
        ),
        chart(
            "Requests",
            "Many small ones are what a hard disk is slow at.",
            "disk",
            {"reads": Measure("reads_per_s"), "writes": Measure("writes_per_s", of="-({})")},
            by="label",
            unit="iops",
            custom={"axisCenteredZero": True},
        ),
        chart(
            "How long a request takes",
            "Over 50 ms for long: the disk is busy, or ill.",
            "disk",
            {"read": Measure("read_await_s"), "write": Measure("write_await_s")},
            by="label",
            unit="s",
            thresholds=above(0.05, 0.5),
        ),
        chart(
            "Busy",
            "Share of time with a request under way. 100 % is the end for a hard disk, not for an SSD.",
            "disk",
            {"busy": Measure("busy_pct")},
            by="label",
            unit="percent",
            thresholds=above(80, 95),
            minimum=0,
            maximum=100,
        ),
        chart(
            "Queue",
            "How many requests wait in the mean; over 10 for long is too much work for it.",
            "disk",
            {"waiting": Measure("queue")},
            by="label",
            thresholds=above(5, 10),
        ),
    ],
)
HEALTH = Row(
    "How well",
    [
        table(
            "Disks, by what they say (SMART)",
            "The newest within three days. Pending sectors cannot be read; reallocated ones were replaced; errors of"
            " the cable are cured by another cable. A disk that sleeps is left asleep.",
            latest(
                "smart",
                [
                    'newest.device AS "Device"',
                    'newest.model AS "Model"',
                    'newest.asleep AS "Asleep"',
                    "CASE WHEN newest.passed THEN 'well' WHEN NOT newest.passed THEN 'fails' END AS \"Verdict\"",
                    'newest.celsius AS "Warm"',
                    'newest.wear_pct AS "Worn"',
                    'newest.reallocated AS "Reallocated"',
                    'newest.pending AS "Pending"',
                    'newest.uncorrectable AS "Uncorrectable"',
                    'newest.crc_errors AS "Cable"',
                    'newest.powered_s AS "On for"',
                    'newest.written_bytes AS "Written"',
                ],
                within="3 days",
                label="Disk",
            ),
            empty=NO_SMART,
            width=24,
            overrides=[
                words("Verdict", {"well": GREEN, "fails": RED}),
                column("Warm", "celsius", above(50, 60)),
                column("Worn", "percent", above(80, 95)),
                column("Reallocated", "short", above(1, 50)),
                column("Pending", "short", above(1, 1)),
                column("Uncorrectable", "short", above(1, 1)),
                column("Cable", "short", above(1, 100)),
                column("On for", "s"),
                column("Written", "bytes"),
            ],
        ),
        chart(
            "Warm",
            "Hard disks live longest between 25 and 45 degrees.",
            "smart",
            {"warm": Measure("celsius", "max")},
            by="label",
            empty=NO_SMART,
            unit="celsius",
            thresholds=above(50, 60),
            interval="1h",
            custom={"spanNulls": 86_400_000, "showPoints": "auto"},
        ),
        chart(
            "Sectors lost",
            "Reallocated and pending. A number that grows is a disk that goes.",
            "smart",
            {"reallocated": Measure("reallocated", "max"), "pending": Measure("pending", "max")},
            by="label",
            empty="No disk here counts sectors, or none was asked: homelab-agent doctor metrics",
            thresholds=above(1, 50),
            interval="1h",
            custom={"spanNulls": 86_400_000, "showPoints": "auto"},
        ),
        chart(
            "Worn",
            "Of what an SSD was made for. At 100 % it may go on; plan its successor.",
            "smart",
            {"worn": Measure("wear_pct", "max")},
            by="label",
            empty="No disk here says how worn it is",
            unit="percent",
            thresholds=above(80, 95),
            interval="1h",
            custom={"spanNulls": 86_400_000, "showPoints": "auto"},
        ),
        table(
            "Arrays",
            "As at the end of the range. Missing disks: mdadm /dev/mdX --add /dev/DISK.",
            latest(
                "raid",
                [
                    'newest.level AS "Level"',
                    'newest.state AS "State"',
                    'newest.disks AS "Disks"',
                    'newest.missing AS "Missing"',
                    'newest.failed AS "Failed"',
                    'newest.spares AS "Spares"',
                    'newest.action AS "Does"',
                    'newest.synced_pct AS "Done"',
                    'newest.mismatches AS "Mismatches"',
                ],
                label="Array",
            ),
            empty=NO_RAID,
            overrides=[
                words("State", {"clean": GREEN, "active": GREEN, "degraded": ORANGE, "inactive": RED}),
                column("Missing", "short", above(1, 1)),
                column("Failed", "short", above(1, 1)),
                column("Done", "percent"),
            ],
        ),
    ],
)
BOARD = Dashboard(
    name="storage",
    title="Storage",
    description="How full, how busy and how well filesystems, disks and arrays are.",
    rows=[FIRST, FULL, BUSY, HEALTH],
)
