"""Host: processor, memory, network, warmth, units, in the order in which one looks for what is scarce."""

from __future__ import annotations

from compose.grafana.build.boards import events
from compose.grafana.build.dashboard import Dashboard, Row
from compose.grafana.build.panel import GREEN, ORANGE, RED, above, below
from compose.grafana.build.shapes import BARS, NOT_SAMPLED, STACKED, chart, column, table, words
from compose.grafana.build.sql import HOSTS, Measure, band, latest

MODES = ("user", "nice", "system", "iowait", "irq", "softirq", "steal")
NO_SENSOR = "No such sensor here, as in most virtual machines: homelab-agent metrics sample"

LIMITS = f"""SELECT entity.host AS "Host", entity.label AS "Sensor", newest.celsius AS "Now",
       newest.critical_celsius - newest.celsius AS "To critical", newest.high_celsius AS "High",
       newest.critical_celsius AS "Critical"
  FROM homelab.entity CROSS JOIN LATERAL (
       SELECT * FROM homelab.temperature_sample AS sample
        WHERE sample.entity_id = entity.id AND sample.time <= $__timeTo()
          AND sample.time > $__timeTo()::timestamptz - INTERVAL '3 hours'
        ORDER BY sample.time DESC LIMIT 1) AS newest
 WHERE entity.family = 'temperature' AND entity.host IN ({HOSTS})
 ORDER BY "To critical" NULLS LAST, 3 DESC"""

CPU = Row(
    "Processor",
    [
        chart(
            "CPU busy",
            "The mean of all cores; with one host, also what it was between. What waits is in the next charts.",
            "cpu",
            band("busy_pct", "busy"),
            unit="percent",
            thresholds=above(75, 90),
            minimum=0,
            maximum=100,
        ),
        chart(
            "CPU by mode",
            "On what time went. Much iowait: disks (dashboard Storage). Much steal: the virtual machine's host"
            " is busy.",
            "cpu",
            {mode: Measure(f"{mode}_pct") for mode in MODES},
            unit="percent",
            minimum=0,
            custom=STACKED,
        ),
        chart(
            "Cores",
            "One core at 100 % while others rest is one program that cannot do better.",
            "cpu_core",
            {"busy": Measure("busy_pct")},
            by="label",
            unit="percent",
            minimum=0,
            maximum=100,
        ),
        chart(
            "Load per core",
            "How many tasks run or wait, for each core, over 5 minutes; over 2 for long: too much work for it.",
            "load",
            {"mean": Measure("load5"), "cores": Measure("cores", "max", alone=True)},
            thresholds=above(4, 16),
        ),
        chart(
            "Tasks that waited (pressure)",
            "Share of time in which some task waited for processor, memory or disks: what a user feels as slow.",
            "pressure",
            {"some": Measure("some_pct"), "all": Measure("full_pct")},
            by="label",
            empty="This kernel does not count it (PSI); on a Raspberry Pi: psi=1 in cmdline.txt",
            unit="percent",
            thresholds=above(20, 50),
            minimum=0,
        ),
        chart(
            "Frequency",
            "How fast the cores run. Slow under load: heat, or a governor that saves power.",
            "frequency",
            {"at": Measure("hertz")},
            by="label",
            empty=NO_SENSOR,
            unit="hertz",
            interval="1m",
        ),
    ],
)
MEMORY = Row(
    "Memory",
    [
        chart(
            "Memory used",
            "What programs hold and the kernel could not give away (total minus available).",
            "memory",
            band("used_pct", "used"),
            unit="percent",
            thresholds=above(80, 90),
            minimum=0,
            maximum=100,
        ),
        chart(
            "Memory by use",
            "Cached and buffers are free for who needs them.",
            "memory",
            {
                "used": Measure("used_bytes"),
                "buffers": Measure("buffers_bytes"),
                "cached": Measure("cached_bytes"),
                "free": Measure("free_bytes"),
            },
            unit="bytes",
            minimum=0,
            custom=STACKED,
        ),
        chart(
            "Swap in and out",
            "Pages that move all the time: memory is too small for what runs.",
            "memory",
            {"in": Measure("swap_in_bytes_per_s"), "out": Measure("swap_out_bytes_per_s")},
            unit="binBps",
            thresholds=above(1_048_576, 10_485_760),
        ),
        chart(
            "Killed for want of memory",
            "How many programs the kernel has killed since the host was started; a step is one more. Which one:"
            " journalctl -k -g 'Out of memory'.",
            "memory",
            {"killed": Measure("oom_kills", "max")},
            empty="This kernel does not count them",
            thresholds=above(1, 10),
            decimals=0,
        ),
    ],
)
NETWORK = Row(
    "Network",
    [
        chart(
            "Traffic",
            "Received is above, sent below zero; tunnels (VPN) are interfaces of their own.",
            "network",
            {"received": Measure("rx_bytes_per_s"), "sent": Measure("tx_bytes_per_s", of="-({})")},
            by="label",
            unit="binBps",
            custom={"axisCenteredZero": True},
        ),
        chart(
            "Errors and drops",
            "Packets a second that were lost at the interface. A cable, a card, or too little time to take them.",
            "network",
            {
                "rx errors": Measure("rx_errors_per_s"),
                "tx errors": Measure("tx_errors_per_s"),
                "rx dropped": Measure("rx_dropped_per_s"),
                "tx dropped": Measure("tx_dropped_per_s"),
            },
            by="label",
            unit="pps",
            thresholds=above(1, 10),
        ),
        table(
            "Interfaces",
            "As at the end of the range. Up without a link: a cable, or the other side.",
            latest(
                "network",
                [
                    'newest.up AS "Up"',
                    'newest.carrier AS "Link"',
                    'newest.speed_bytes_per_s AS "Speed"',
                    'newest.rx_bytes_per_s AS "Received"',
                    'newest.tx_bytes_per_s AS "Sent"',
                    'newest.carrier_changes AS "Link came and went"',
                ],
                label="Interface",
            ),
            empty=NOT_SAMPLED,
            overrides=[
                column("Speed", "binBps"),
                column("Received", "binBps"),
                column("Sent", "binBps"),
            ],
        ),
    ],
)
WARMTH = Row(
    "Warmth and power",
    [
        table(
            "Sensors and their limits",
            "What is nearest to its own critical limit first.",
            LIMITS,
            empty=NO_SENSOR,
            overrides=[
                column("Now", "celsius", decimals=0),
                column("To critical", "celsius", below(5, 15), decimals=0),
                column("High", "celsius", decimals=0),
                column("Critical", "celsius", decimals=0),
            ],
        ),
        chart(
            "Fans",
            "One that stands still while its neighbours turn has failed, or is steered by warmth.",
            "fan",
            {"turns": Measure("rpm")},
            by="label",
            empty=NO_SENSOR,
            unit="rotrpm",
            interval="1m",
        ),
        chart(
            "Slowed down (Raspberry Pi)",
            "Share of time: under voltage is the power supply or its cable; too warm wants a fan.",
            "throttling",
            {
                "under voltage": Measure("under_voltage", "true"),
                "slowed down": Measure("throttled", "true"),
                "too warm": Measure("too_warm", "true"),
            },
            empty="No Raspberry Pi, or its firmware cannot be asked",
            thresholds=above(1, 1),
            decimals=0,
            interval="1m",
        ),
        chart(
            "Slowed down by heat",
            "How often a second heat has slowed a core.",
            "frequency",
            {"times": Measure("throttles_per_s")},
            by="label",
            empty=NO_SENSOR,
            thresholds=above(0.1, 1),
            interval="1m",
        ),
    ],
)
FAILED = f"""SELECT entity.host AS "Host", entity.key AS "Unit", newest.state AS "State", newest.result AS "Why",
       newest.since AS "Since", newest.restarts AS "Restarts",
       'journalctl -u ' || entity.key || ' -n 50' AS "Look"
  FROM homelab.entity CROSS JOIN LATERAL (
       SELECT * FROM homelab.unit_sample AS sample
        WHERE sample.entity_id = entity.id AND sample.time <= $__timeTo()
          AND sample.time > $__timeTo()::timestamptz - INTERVAL '2 hours'
        ORDER BY sample.time DESC LIMIT 1) AS newest
 WHERE entity.family = 'unit' AND entity.host IN ({HOSTS}) AND (newest.failed OR newest.restarts > 0)
 ORDER BY newest.failed DESC, newest.restarts DESC NULLS LAST LIMIT 50"""
UNITS = Row(
    "Units and changes",
    [
        table(
            "Units that failed, or were started again",
            "As at the end of the range. systemctl reset-failed UNIT forgets a failure that is mended.",
            FAILED,
            empty="No unit has failed, none was started again",
            overrides=[
                words("State", {"failed": RED, "active": GREEN, "activating": ORANGE}),
                column("Since", "dateTimeFromNow"),
            ],
        ),
        chart(
            "Starts by systemd",
            "How often systemd started a service again by itself. A tower of them is a crash loop.",
            "unit",
            {"again": Measure("restarted", "sum")},
            by="key",
            key="key",
            where="{restarted} > 0",
            empty="No service was started again in this range",
            custom=BARS,
            decimals=0,
        ),
        table(
            "What changed",
            "System, kernel, firmware, disks, interfaces, mounts, images: what was different, and since when.",
            events.newest(
                "fact", "since", 'host AS "Host", name AS "What", key AS "Which", was AS "Was", value AS "Is"'
            ),
            empty="Nothing changed in this range",
            overrides=[column("When", "dateTimeAsLocal")],
        ),
        table(
            "When there were no samples",
            "From the last sample before it to the first after it, and why.",
            f"""SELECT from_at AS "When", host AS "Host", cause AS "Why", extract(epoch FROM to_at - from_at) AS "For"
  FROM homelab.silence
 WHERE to_at > $__timeFrom() AND from_at < $__timeTo() AND host IN ({HOSTS})
 ORDER BY 1 DESC LIMIT 100""",
            empty="There was a sample whenever one was due",
            overrides=[column("When", "dateTimeAsLocal"), column("For", "s")],
        ),
    ],
)
BOARD = Dashboard(
    name="host",
    title="Host",
    description="What is scarce: processor, memory, network; what is warm; what failed.",
    rows=[CPU, MEMORY, NETWORK, WARMTH, UNITS],
)
