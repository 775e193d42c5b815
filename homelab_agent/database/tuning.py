"""How the embedded server is set: for one small writer on a home server, whose disk may be an SD card.

What a home server's database does is little and steady, so the figures are about what it costs to exist: bytes
written (checkpoints an hour apart, since after each the next change of every page goes to the WAL as a full page;
nothing for replication; no zeros before each part of the WAL; no vacuum merely because rows were added, which writes
each page and its image once more; no analysing of small tables again and again while they grow),
wake-ups, and memory.
"""

from __future__ import annotations

from pathlib import Path

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    "max_connections": "20",
    "timezone": "UTC",
    "shared_buffers": "32MB",
    "huge_pages": "off",
    "jit": "off",
    "work_mem": "8MB",
    "maintenance_work_mem": "32MB",
    "max_parallel_workers_per_gather": "0",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "wal_compression": "on",
    "wal_init_zero": "off",
    "min_wal_size": "32MB",
    "max_wal_size": "256MB",
    "wal_writer_delay": "10s",
    "bgwriter_delay": "10s",
    "autovacuum_naptime": "5min",
    "autovacuum_max_workers": "1",
    "autovacuum_vacuum_insert_threshold": "-1",
    "autovacuum_analyze_threshold": "5000",
    "random_page_cost": "1.5",
    "log_timezone": "UTC",
    "log_line_prefix": "%t [%p] ",
    "log_checkpoints": "off",
    "log_min_messages": "warning",
    "idle_in_transaction_session_timeout": "10min",
}
CHECKPOINT_SECONDS = 3600.0
_SINCE = {18: {"io_method": "sync"}}
"""What a version does not know would keep it from starting."""


def configuration(major: int, socket: Path, port: int, *, checkpoint_every: float = CHECKPOINT_SECONDS) -> str:
    """Return the text of `postgresql.conf` for a server of that major version; `checkpoint_every` in seconds."""
    settings = {
        **_SETTINGS,
        "checkpoint_timeout": f"{checkpoint_every:.0f}s",
        "port": str(port),
        "unix_socket_directories": _listed(socket),
    }
    for since, more in _SINCE.items():
        if major >= since:
            settings |= more
    head = "# Written by homelab-agent at each start. Your own settings: ALTER SYSTEM SET ...\n"
    return head + "".join(f"{key} = {_quoted(value)}\n" for key, value in settings.items())


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _listed(path: Path) -> str:
    """Return a path as an item of a list, in which commas and quotes have a meaning."""
    return '"' + str(path).replace('"', '""') + '"'
