"""What kind of PostgreSQL this is: plain, or with TimescaleDB under its community licence; with PostGIS or without.

Automatic compression and retention are part of TimescaleDB's community edition only, so an Apache-licensed one
counts as plain. A database keeps the edition that its schema was begun with: its tables are made of one kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from homelab_agent.core import journal
from homelab_agent.database.pool import Connection

PLAIN = "plain"
TIMESCALE = "timescale"


@dataclass(frozen=True, slots=True)
class Edition:
    """What the server is; versions are "" for what is not there."""

    name: str
    postgres: str
    timescale: str = ""
    license: str = ""
    postgis: str = ""

    def __str__(self) -> str:
        parts = [f"PostgreSQL {self.postgres}"]
        if self.timescale:
            parts.append(f"TimescaleDB {self.timescale} ({self.license} licence)")
        if self.postgis:
            parts.append(f"PostGIS {self.postgis}")
        return f"{', '.join(parts)}; {self.name} edition"


async def prepare(connection: Connection) -> Edition:
    """Create the extensions that the server offers and return what it is then; without the right to, it goes on."""
    offered = await connection.fetch(
        "SELECT name FROM pg_available_extensions"
        " WHERE name = 'postgis' AND installed_version IS NULL"
        # Its loader defines this setting; without the loader, to create it would end the connection.
        " OR name = 'timescaledb' AND installed_version IS NULL"
        " AND current_setting('timescaledb.max_background_workers', true) IS NOT NULL"
    )
    for name in sorted(row["name"] for row in offered):
        try:
            async with connection.transaction():
                await connection.execute(f"CREATE EXTENSION IF NOT EXISTS {name} SCHEMA public")
        except asyncpg.PostgresError as error:
            journal.logger("database").info("database.extension_refused", extension=name, cause=str(error))
    return await look(connection)


async def look(connection: Connection) -> Edition:
    """Return what the server is, and change nothing."""
    found = await connection.fetch(
        "SELECT extname, extversion FROM pg_extension WHERE extname IN ('timescaledb', 'postgis')"
    )
    versions = {row["extname"]: row["extversion"] for row in found}
    postgres = str(await connection.fetchval("SHOW server_version")).split()[0]
    timescale = versions.get("timescaledb", "")
    license_ = str(await connection.fetchval("SHOW timescaledb.license")) if timescale else ""
    name = await _begun_with(connection) or (TIMESCALE if license_ == "timescale" else PLAIN)
    return Edition(name, postgres, timescale, license_, versions.get("postgis", ""))


async def _begun_with(connection: Connection) -> str:
    if await connection.fetchval("SELECT to_regclass('homelab.schema_migration')") is None:
        return ""
    name = await connection.fetchval("SELECT edition FROM homelab.schema_migration ORDER BY applied_at LIMIT 1")
    return str(name or "")
