"""What the database holds: sizes per table, and how many bytes a day adds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from homelab_agent.database.editions import TIMESCALE, Edition
from homelab_agent.database.pool import Connection

YOUNGEST_SECONDS = 3600.0
"""From less than this no day's growth is told."""
NEWEST = 2
"""Growth is told from so many of a table's newest parts: months, or chunks."""

_TABLES = """
SELECT relname AS name,
       pg_total_relation_size(parent.oid) + coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint AS bytes
  FROM pg_class AS parent LEFT JOIN pg_inherits ON inhparent = parent.oid
 WHERE relnamespace = 'homelab'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
 GROUP BY parent.oid, relname
 ORDER BY relname
"""
_PARTS = """
SELECT inhrelid::regclass::text AS part, pg_total_relation_size(inhrelid) AS bytes
  FROM pg_inherits JOIN pg_attribute ON attrelid = inhrelid AND attname = 'time'
 WHERE inhparent = format('homelab.%I', $1::text)::regclass AND pg_relation_size(inhrelid) > 0
 ORDER BY inhrelid DESC LIMIT $2
"""
_HYPERTABLES = """
SELECT hypertable_name AS name, hypertable_size(format('%I.%I', hypertable_schema, hypertable_name)) AS bytes
  FROM timescaledb_information.hypertables WHERE hypertable_schema = 'homelab'
UNION ALL
SELECT view_name, hypertable_size(format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name))
  FROM timescaledb_information.continuous_aggregates WHERE view_schema = 'homelab'
"""


@dataclass(frozen=True, slots=True)
class TableSize:
    """One table with all its parts and indexes; `bytes_per_day` is None where too little is there to tell."""

    name: str
    bytes: int
    bytes_per_day: float | None


@dataclass(frozen=True, slots=True)
class Info:
    """The database as a whole; sizes in bytes."""

    edition: Edition
    bytes: int
    bytes_per_day: float
    migrations: int
    tables: list[TableSize]


async def read(connection: Connection, edition: Edition) -> Info:
    """Return what the database holds now."""
    whole = await connection.fetchval("SELECT pg_database_size(current_database())")
    sizes = {row["name"]: row["bytes"] for row in await connection.fetch(_TABLES)}
    if edition.name == TIMESCALE:  # it keeps compressed parts elsewhere
        sizes |= {row["name"]: row["bytes"] for row in await connection.fetch(_HYPERTABLES)}
    tables = [TableSize(name, size, await _growth(connection, name)) for name, size in sizes.items()]
    known = "schema_migration" in sizes
    applied = await connection.fetchval("SELECT count(*) FROM homelab.schema_migration") if known else 0
    return Info(edition, whole, sum(table.bytes_per_day or 0.0 for table in tables), applied, tables)


async def _growth(connection: Connection, table: str) -> float | None:
    """Return how many bytes a day of rows takes, by the newest parts of a table."""
    size, times = 0, list[datetime]()
    for row in await connection.fetch(_PARTS, table, NEWEST):
        ends = await connection.fetchrow(f"SELECT min(time), max(time) FROM {row['part']}")  # noqa: S608
        times += [at for at in ends or () if at is not None]
        size += row["bytes"]
    span = (max(times) - min(times)).total_seconds() if times else 0.0
    return size * 86400.0 / span if span >= YOUNGEST_SECONDS else None
