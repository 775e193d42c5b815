"""Rules about what wears and warms: disks, arrays, sensors, power."""

from __future__ import annotations

from compose.grafana.build.alert import Rule
from compose.grafana.build.rules.asked import newest, over_time

HOST = "{{ .Labels.host }}"
DISK = "{{ .Labels.disk }}"

RULES = (
    Rule(
        name="disk-fails",
        title="A disk says that it fails",
        sql=newest(
            "smart", "(NOT newest.passed)::integer", within="3 days", named="disk", where="newest.passed IS NOT NULL"
        ),
        over=0,
        during="0s",
        severity="critical",
        summary=f"{HOST}: {DISK} says that it fails",
        cause="By its own verdict (SMART). Most disks that say so are dead within weeks.",
        repair="homelab-agent backup run; smartctl -a DEVICE; then replace it",
        board="storage",
        panel="Disks, by what they say (SMART)",
    ),
    Rule(
        name="disk-sectors",
        title="A disk has sectors that it cannot read",
        sql=newest(
            "smart",
            "coalesce(newest.pending, 0) + coalesce(newest.uncorrectable, 0)",
            within="3 days",
            named="disk",
            where="newest.asleep IS NOT TRUE",
        ),
        over=0,
        during="0s",
        summary=f"{HOST}: {DISK} has sectors that it cannot read",
        cause="Pending or uncorrectable. Files on them are lost unless there is a copy.",
        repair="homelab-agent backup verify; smartctl -t long DEVICE",
        board="storage",
        panel="Sectors lost",
    ),
    Rule(
        name="disk-worn",
        title="A disk is worn",
        sql=newest("smart", "newest.wear_pct", within="3 days", named="disk", where="newest.wear_pct IS NOT NULL"),
        over=90,
        during="0s",
        summary=f"{HOST}: {DISK} is more than 90 % worn",
        cause="Of what it was made for. It may go on for long; have its successor at hand.",
        repair="smartctl -a DEVICE",
        board="storage",
        panel="Worn",
    ),
    Rule(
        name="disk-queue",
        title="A disk does not keep up",
        sql=over_time("disk", "avg(queue)", 30, named="disk"),
        over=10,
        during="30m",
        summary=f"{HOST}: more than ten requests wait for {DISK}",
        cause="For an hour: too much work for it, or it is ill.",
        repair="iotop -oPa; homelab-agent metrics sample",
        board="storage",
        panel="Queue",
    ),
    Rule(
        name="array-degraded",
        title="An array lacks a disk",
        sql=newest("raid", "greatest(newest.missing, newest.failed)", named="array"),
        over=0,
        during="1m",
        severity="critical",
        summary=f"{HOST}: the array {{{{ .Labels.array }}}} lacks a disk",
        cause="It survives no other.",
        repair="cat /proc/mdstat; mdadm --detail /dev/mdX; mdadm /dev/mdX --add /dev/DISK",
        board="storage",
        panel="Arrays",
    ),
    Rule(
        name="hot",
        title="Something is too warm",
        sql="""SELECT entity.host, entity.label AS sensor, (lately.celsius - lately.critical)::double precision AS value
  FROM homelab.entity CROSS JOIN LATERAL (
       SELECT avg(sample.celsius) AS celsius, coalesce(max(sample.critical_celsius), 95) AS critical
         FROM homelab.temperature_sample AS sample
        WHERE sample.entity_id = entity.id AND sample.time > now() - INTERVAL '10 minutes') AS lately
 WHERE entity.family = 'temperature' AND lately.celsius IS NOT NULL""",
        over=-10,
        during="10m",
        summary=f"{HOST}: {{{{ .Labels.sensor }}}} is within ten degrees of its limit",
        cause="Of its own critical limit, or of 95 degrees where it has none. Dust, a fan, or too much work.",
        repair="sensors; homelab-agent metrics sample",
        board="host",
        panel="Sensors and their limits",
    ),
    Rule(
        name="under-voltage",
        title="The power supply is too weak",
        sql=over_time("throttling", "max(under_voltage::integer)", 30),
        over=0,
        during="0s",
        summary=f"{HOST}: its power supply is too weak",
        cause="A Raspberry Pi says so; it loses what it writes to its card when it falls.",
        repair="vcgencmd get_throttled; use the supply that was made for it, and a short cable",
        board="host",
        panel="Slowed down (Raspberry Pi)",
    ),
)
