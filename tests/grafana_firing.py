"""What has to happen for each alert rule to fire, as SQL over a seed on which all is well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def _recent(family: str, change: str, label: str = "", minutes: int = 60) -> str:
    """Return what changes a host's rows of the last minutes, or those of one of its entities."""
    of = f" AND label = '{label}'" if label else ""
    return (
        f"UPDATE homelab.{family}_sample SET {change} WHERE time > now() - INTERVAL '{minutes} minutes' AND"
        f" entity_id IN"
        f" (SELECT id FROM homelab.entity WHERE host = 'nas' AND family = '{family}'{of})"
    )


def _found(check: str, state: str = "failed") -> str:
    return (
        f"INSERT INTO homelab.finding SELECT 'nas', '{check}', now(), max(started_at), '{state}', '', 'so', 'do'"
        " FROM homelab.finding WHERE host = 'nas'"
    )


FIRING: Mapping[str, str] = {
    "samples-late": "DELETE FROM homelab.tick WHERE host = 'nas' AND time > now() - INTERVAL '20 minutes'",
    "check-failed": _found("spool"),
    "spool": "UPDATE homelab.tick SET spooled = true WHERE host = 'nas' AND time > now() - INTERVAL '10 minutes'",
    "rows-given-up": (
        "INSERT INTO homelab.gap VALUES ('nas', now() - INTERVAL '2 hours', now() - INTERVAL '1 hour', 'full', 9)"
    ),
    "agent-restarts": (
        "INSERT INTO homelab.agent_start SELECT 'nas', now() - number * INTERVAL '5 minutes', now(), 10, '0.1.0'"
        " FROM generate_series(1, 4) AS number"
    ),
    "samples-missed": "UPDATE homelab.tick SET skipped = 3 WHERE host = 'nas' AND time > now() - INTERVAL '10 minutes'",
    "clock": (
        "UPDATE homelab.tick SET clock_synchronised = false WHERE host = 'nas' AND time > now() - INTERVAL '2 hours'"
    ),
    "clock-set": "UPDATE homelab.tick SET step_s = -30 WHERE host = 'nas' AND time > now() - INTERVAL '5 minutes'",
    "database-slow": _recent("agent", "database_ms = 900"),
    "cpu": _recent("cpu", "busy_pct = 97"),
    "load": _recent("load", "load5 = 12"),
    "memory": _recent("memory", "used_pct = 95"),
    "memory-pressure": _recent("pressure", "full_pct = 30", "memory"),
    "page-faults": _recent("memory", "major_faults_per_s = 900"),
    "killed-for-memory": _recent("memory", "oom_kills = 1", minutes=10),
    "network-errors": _recent("network", "rx_errors_per_s = 4", "eth0"),
    "filesystem-low": _recent("filesystem", "used_pct = 96", "/srv"),
    "filesystem-full": _recent("filesystem", "used_pct = 98", "/srv"),
    "filesystem-fills": _recent("forecast", "full_in_d = 3", "/srv", minutes=180),
    "filesystem-fills-fast": _recent(
        "filesystem", "available_bytes = 50000000000 + extract(epoch FROM now() - time)::bigint * 10000000", "/srv"
    ),
    "inodes-low": _recent("filesystem", "inodes_used_pct = 99", "/srv"),
    "filesystem-read-only": _recent("filesystem", "read_only = true", "/srv"),
    "filesystem-silent": _recent("filesystem", "stuck_s = 300, used_pct = NULL", "/mnt/backup"),
    "unit-failed": _recent("unit", "failed = true, state = 'failed'", "docker.service"),
    "unit-restarts": _recent("unit", "restarted = 1", "docker.service", minutes=8),
    "container-restarts": _recent("container", "restarted = 1", "photos/db/1", minutes=8),
    "container-memory": _recent("container", "memory_pct = 99", "photos/db/1"),
    "probe-down": _recent("probe", "up = false", "photos"),
    "certificate": _recent("probe", "certificate_s = 200000", "photos"),
    "disk-fails": _recent("smart", "passed = false", "sda"),
    "disk-sectors": _recent("smart", "pending = 8", "sda"),
    "disk-worn": _recent("smart", "wear_pct = 97", "nvme0n1"),
    "disk-queue": _recent("disk", "queue = 40", "sda"),
    "array-degraded": _recent("raid", "missing = 1, state = 'degraded'"),
    "hot": _recent("temperature", "celsius = 95", "nvme Composite"),
    "under-voltage": _recent("throttling", "under_voltage = true", minutes=5),
    "backup-stale": (
        "DELETE FROM homelab.backup_run WHERE host = 'nas' AND set_name = 'photos' AND ended_at > now() -"
        " INTERVAL '3 days'"
    ),
    "backup-failed": (
        "INSERT INTO homelab.backup_run SELECT host, gen_random_uuid(), NULL, set_name, engine, 'failed',"
        " 'full', '', 0,"
        " '{}', now(), now() FROM homelab.backup_run WHERE host = 'nas' AND set_name = 'photos' LIMIT 1"
    ),
    "backup-unproven": "DELETE FROM homelab.backup_drill WHERE host = 'nas' AND ended_at > now() - INTERVAL '40 days'",
    "drill-failed": (
        "INSERT INTO homelab.backup_drill VALUES"
        " ('nas', gen_random_uuid(), 'archive', 'a', 'photos', false, 'no', 3, now())"
    ),
    "backup-check": _found("backup.photos", "degraded"),
    "gate-blocked": _found("gate.funnel"),
    "gate-unsteady": (
        "INSERT INTO homelab.gate_exposure SELECT 'nas', gen_random_uuid(), now() - INTERVAL '2 hours', 'ready',"
        " now() - number * INTERVAL '4 minutes', 'not ready', '', 60, 0, 0, 0 FROM generate_series(1, 8) AS number"
    ),
    "secret-stale": _found("secrets.openbao", "degraded"),
    "secret-refused": (
        "INSERT INTO homelab.secret_change VALUES ('nas', gen_random_uuid(), now(),"
        " 'openbao:secret/homelab/postgres#password', '5', 'refused', 'no log-in')"
    ),
    "deploy-failed": (
        "INSERT INTO homelab.gitops_move VALUES ('nas', gen_random_uuid(), 'homelab/stack', 'a', 'b',"
        " 'rolled_back', '',"
        " NULL, now(), now())"
    ),
    "repository-stuck": _found("gitops.homelab/stack", "degraded"),
    "sync-failed": ("UPDATE homelab.sync_history SET status = 'failed' WHERE started_at > now() - INTERVAL '25 hours'"),
    "sync-stale": "DELETE FROM homelab.sync_history WHERE started_at > now() - INTERVAL '4 days'",
    "sync-differs": (
        "INSERT INTO homelab.sync_proof SELECT run, origin, '2026-11-28', 5, 4, 0, 0, 'a', 'b'"
        " FROM homelab.sync_history ORDER BY started_at DESC LIMIT 1"
    ),
    "job-failed": (
        "INSERT INTO homelab.job_run SELECT gen_random_uuid(), 'nas', 'database.rollups', 'schedule',"
        " 'failed', 'so', '',"
        " now() - number * INTERVAL '1 second', NULL, now() FROM generate_series(0, 1) AS number"
    ),
}
_SLOW = """
DELETE FROM homelab.{table} AS sample WHERE time > now() - INTERVAL '4 days' AND {of}
   AND extract(epoch FROM (SELECT max(time) FROM homelab.{table}) - time)::bigint % 86400 <> 0
"""
"""Of what comes once a day no more is left."""


def _seldom(family: str) -> str:
    """Return what leaves of a host's rows of the last days one a day, as with slow_interval = 86400."""
    of = f"entity_id IN (SELECT id FROM homelab.entity WHERE host = 'nas' AND family = '{family}')"
    return _SLOW.format(table=f"{family}_sample", of=of)


def _again(family: str, label: str, columns: str, values: str, when: str) -> str:
    """Return what gives a label to another entity, too, with rows at those times of the host's that has it already."""
    return (
        f"INSERT INTO homelab.entity SELECT 7, 'nas', '{family}', 'another', '{label}';"
        f" INSERT INTO homelab.{family}_sample (entity_id, time, {columns}) SELECT 7, time, {values}"
        f" FROM homelab.{family} WHERE host = 'nas' AND label = '{label}' AND key <> 'another' AND {when}"
    )


_LATELY = "time > now() - INTERVAL '1 hour'"
_ASLEEP = (
    "INSERT INTO homelab.smart_sample (entity_id, time, asleep) SELECT id, now(), true FROM homelab.entity"
    " WHERE host = 'nas' AND family = 'smart' AND label = 'sda'"
)
_KILLED = _recent("memory", "oom_kills = 5")  # before the host was started anew
MORE: Sequence[tuple[str, str, bool]] = (
    ("hot", _again("temperature", "nvme Composite", "celsius, critical_celsius", "95, 100", _LATELY), True),
    ("hot", _again("temperature", "nvme Composite", "celsius, critical_celsius", "40, 100", _LATELY), False),
    ("network-errors", _again("network", "eth0", "rx_errors_per_s, tx_errors_per_s", "9, 0", _LATELY), True),
    ("filesystem-low", _again("filesystem", "/srv", "used_pct", "99", "time < now() - INTERVAL '5 minutes'"), False),
    ("filesystem-low", _again("filesystem", "/srv", "used_pct", "99", _LATELY), True),
    ("disk-fails", f"{FIRING['disk-fails']}; {_ASLEEP}", True),
    ("disk-sectors", f"{FIRING['disk-sectors']}; {_ASLEEP}", True),
    ("certificate", f"{FIRING['certificate']}; {_recent('probe', 'certificate_s = NULL', 'photos', 20)}", True),
    ("killed-for-memory", f"{_KILLED}; {_recent('memory', 'oom_kills = 0', minutes=9)}", False),
    ("killed-for-memory", f"{_KILLED}; {_recent('memory', 'oom_kills = 1', minutes=9)}", True),
    (
        "backup-stale",
        "DELETE FROM homelab.backup_run WHERE set_name = 'weekly' AND ended_at > now() - INTERVAL '8 days'",
        False,
    ),
    (
        "backup-stale",
        "DELETE FROM homelab.backup_run WHERE set_name = 'weekly' AND ended_at > now() - INTERVAL '13 days'",
        True,
    ),
    (
        "sync-failed",
        (
            "INSERT INTO homelab.sync_history (run, origin, stream, host, started_at, ended_at, status) SELECT"
            " gen_random_uuid(), 'feeds', 'sync', host, now(), now(), 'failed' FROM unnest(ARRAY['nas', 'pi']) AS host"
        ),
        True,
    ),
    (
        "sync-stale",
        "DELETE FROM homelab.sync_history WHERE origin = 'weekly' AND started_at > now() - INTERVAL '13 days'",
        True,
    ),
    ("hot", f"{_seldom('temperature')}; {_recent('temperature', 'celsius = 95', 'nvme Composite', 6000)}", True),
    ("filesystem-low", f"{_seldom('filesystem')}; {_recent('filesystem', 'used_pct = 99', '/srv', 6000)}", True),
    ("probe-down", f"{_seldom('probe')}; {_recent('probe', 'up = false', 'photos', 6000)}", True),
    (
        "filesystem-fills-fast",
        (
            "DELETE FROM homelab.filesystem_sample AS sample WHERE extract(minute FROM (SELECT max(time) FROM"
            f" homelab.tick) - time)::integer % 5 <> 0; {FIRING['filesystem-fills-fast']}"
        ),
        True,
    ),
    (
        "samples-missed",
        "UPDATE homelab.tick SET skipped = 1 WHERE host = 'nas' AND time > now() - INTERVAL '40 minutes'",
        True,
    ),
    ("check-failed", _found("metrics.probe.photos"), False),
    ("check-failed", _found("webhook"), False),
    ("check-failed", _found("metrics.disks"), False),
    ("check-failed", _found("gate"), False),
    ("check-failed", _found("gateway"), True),
    ("check-failed", _found("reading.feeds"), True),
)
"""Of a rule: what else happens, and whether it fires then."""
ANNOUNCED = (
    "INSERT INTO homelab.finding SELECT 'nas', name, now(), max(started_at), 'failed', 'a backup', 'so', 'do'"
    " FROM homelab.finding, unnest(ARRAY['spool', 'gate.funnel', 'secrets.openbao']) AS name"
    " WHERE host = 'nas' GROUP BY name"
)
"""What was announced alarms nobody."""
