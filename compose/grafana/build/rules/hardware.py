"""Rules about what wears and warms: disks, arrays, sensors, power."""

from __future__ import annotations

from compose.grafana.build.alert import Rule
from compose.grafana.build.rules.asked import Known, newest, over_time

HOST = "{{ .Labels.host }}"
DISK = "{{ .Labels.disk }}"


def _said(value: str, *, known: str) -> str:
    """Return the SQL of what each disk said last; one that sleeps says nothing, and is as it was when it was awake."""
    return newest("smart", value, within="3 days", named="disk", known=Known(known, "30 days"))


RULES = (
    Rule(
        name="disk-fails",
        title="A disk says that it fails",
        sql=_said("(NOT newest.passed)::integer", known="sample.passed IS NOT NULL"),
        over=0,
        during="0s",
        severity="critical",
        summary=f"{HOST}: {DISK} says that it fails",
        cause="By its own verdict (SMART). Most disks that say so are dead within weeks.",
        checks=("metrics.disks",),
        repair="homelab-agent backup run; smartctl -a DEVICE; then replace it",
        board="storage",
        panel="Disks, by what they say (SMART)",
    ),
    Rule(
        name="disk-sectors",
        title="A disk has sectors that it cannot read",
        sql=_said("coalesce(newest.pending, 0) + coalesce(newest.uncorrectable, 0)", known="sample.asleep IS NOT TRUE"),
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
        sql=_said("newest.wear_pct", known="sample.wear_pct IS NOT NULL"),
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
        sql=over_time("temperature", "avg(celsius) - coalesce(max(critical_celsius), 95)", 10, named="sensor"),
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
