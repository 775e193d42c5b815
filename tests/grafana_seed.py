"""Ninety days of two hosts on which all is well, as an agent would have left them; and what went wrong, to be seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg

from homelab_agent.database import editions, migrations, partitions

HOSTS = ("nas", "pi")
DAYS = 90
HAPPENED = Path(__file__).with_name("grafana_happened.sql").read_text(encoding="utf-8")
WENT_WRONG = Path(__file__).with_name("grafana_went_wrong.sql").read_text(encoding="utf-8")
_FILES = {edition: migrations.load(edition) for edition in (editions.PLAIN, editions.TIMESCALE)}
LABELS: Mapping[str, Sequence[str]] = {
    "cpu": ("total",),
    "cpu_core": ("0", "1", "2", "3"),
    "memory": ("total",),
    "load": ("total",),
    "pressure": ("cpu", "memory", "io"),
    "filesystem": ("/", "/srv", "/mnt/backup"),
    "forecast": ("/", "/srv", "/mnt/backup"),
    "disk": ("sda", "nvme0n1"),
    "smart": ("sda", "nvme0n1"),
    "network": ("eth0", "wlan0", "wg0", "tailscale0"),
    "temperature": ("coretemp Package id 0", "coretemp Core 0", "nvme Composite"),
    "fan": ("nct6775 fan1",),
    "frequency": ("0", "1"),
    "throttling": ("total",),
    "raid": ("md0",),
    "unit": ("ssh.service", "docker.service", "homelab-agent.service", "srv.mount"),
    "container": ("photos/web/1", "photos/db/1", "feeds/miniflux/1"),
    "probe": ("photos", "feeds"),
    "agent": ("total",),
}
_WAVE = "(10 + 5 * sin(extract(epoch FROM time) / 9000 + number))"
_GIGABYTE = 2**30
_VALUES: Mapping[str, str] = {
    "size_bytes": f"{100 * _GIGABYTE}",
    "total_bytes": f"{16 * _GIGABYTE}",
    "available_bytes": f"{50 * _GIGABYTE}",
    "spool_rows": "30",
    "spool_bytes": "0",
    "state_written_bytes": "1000",
    "oom_kills": "0",
    "cores": "4",
    "load1": "0.5",
    "load5": "0.5",
    "load15": "0.5",
    "queue": "0.1",
    "database_ms": "2",
    "late_ms": "1",
    "stuck_s": "0",
    "inodes": "1000000",
    "celsius": "45",
    "high_celsius": "80",
    "critical_celsius": "100",
    "full_in_d": "200",
    "growth_bytes_per_d": "1000000",
    "wear_pct": "5",
    "full_pct": "0",
    "passed": "true",
    "active": "true",
    "up": "true",
    "carrier": "true",
    "certificate_s": f"{60 * 86400}",
    "status": "200",
    "disks": "2",
    "hertz": "2400000000",
    "since": "time",
    "state": "'active'",
    "type": "'ext4'",
    "device": "'sda'",
    "model": "'ST4000VN008'",
    "image": "'postgres:17'",
    "level": "'raid1'",
    "action": "'idle'",
}
_NOTHING = (
    "restarted restarts pending uncorrectable reallocated crc_errors missing failed spares mismatches warnings"
    " rx_errors_per_s tx_errors_per_s rx_dropped_per_s tx_dropped_per_s major_faults_per_s throttles_per_s"
)
"""Of what there is none while all is well."""

_TIMES = """
    SELECT $2::timestamptz - number * $3::integer * INTERVAL '1 second' AS time
      FROM generate_series($4::integer / $3 + 1, 90 * 86400 / $3) AS number
     UNION ALL
    SELECT $2::timestamptz - number * $5::integer * INTERVAL '1 second' FROM generate_series(0, $4 / $5) AS number
"""
_COLUMNS = """
SELECT column_name AS name, data_type AS type FROM information_schema.columns
 WHERE table_schema = 'homelab' AND table_name = $1 AND column_name NOT IN ('entity_id', 'time')
 ORDER BY ordinal_position
"""
_ENTITIES = """
INSERT INTO homelab.entity
    SELECT hashtextextended(host || $1 || label, 0), host, $1, label, label FROM unnest($2::text[]) AS host,
           unnest($3::text[]) AS label
"""
_TICKS = f"""
INSERT INTO homelab.tick
    SELECT host, time, time, time, 1, 5, 0, 0, 0, 0, false, true,
           '{{"cpu": ["ok", 0.2], "unit": ["ok", 3.5], "raid": ["not_available", 0.1]}}'
      FROM unnest($1::text[]) AS host, ({_TIMES}) AS times
"""


async def prepare(connection: asyncpg.Connection, now: datetime) -> str:
    """Make the schema of this release, and return the edition; rollups are made by who rolls up.

    TimescaleDB's policies do not run meanwhile: they would compress what the test is about to change.
    """
    edition = (await editions.prepare(connection)).name
    await migrations.apply(connection, _FILES[edition], edition=edition)
    if edition == editions.TIMESCALE:
        await connection.execute("SELECT _timescaledb_functions.stop_background_workers()")
    else:
        months = {partitions.month(now - timedelta(days=days)) for days in range(DAYS + 2)}
        for family in (*(f"{name}_sample" for name in LABELS), "tick"):
            await partitions.ensure(connection, family, months)
    return edition


@dataclass(frozen=True, slots=True)
class Density:
    """How many seconds lie between two samples: of 90 days, and of the last `lately` seconds."""

    apart: int = 7200
    lately: int = 3 * 3600
    then_apart: int = 60


async def seed(connection: asyncpg.Connection, now: datetime, density: Density = Density()) -> None:
    """Put 90 days of samples, and what agents have done meanwhile."""
    times = (now, density.apart, density.lately, density.then_apart)
    await connection.execute(_TICKS, HOSTS, *times)
    for family, labels in LABELS.items():
        await connection.execute(_ENTITIES, family, HOSTS, labels)
        await _samples(connection, family, times)
    await connection.execute(HAPPENED)


async def _samples(connection: asyncpg.Connection, family: str, times: tuple[datetime, int, int, int]) -> None:
    columns = await connection.fetch(_COLUMNS, f"{family}_sample")
    names = ", ".join(row["name"] for row in columns)
    values = ", ".join(f"({_value(row['name'], row['type'])})::{row['type']}" for row in columns)
    await connection.execute(
        f"INSERT INTO homelab.{family}_sample (entity_id, time, {names}) SELECT id, time, {values} FROM"
        " (SELECT id, row_number() OVER (ORDER BY id) AS number FROM homelab.entity WHERE family = $1) AS entity,"
        f" ({_TIMES}) AS times",
        family, *times,
    )  # fmt: skip


def _value(name: str, kind: str) -> str:
    if name in _VALUES:
        return _VALUES[name]
    if kind == "boolean":
        return "false"
    if name in _NOTHING.split(" "):
        return "0"
    if kind in {"text", "timestamp with time zone"}:
        return "NULL"
    if name.endswith(("_bytes", "_s", "packets", "switches", "faults")) and not name.endswith("_per_s"):
        return "extract(epoch FROM time)"
    return _WAVE
