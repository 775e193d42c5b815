"""The schema: numbered SQL files per room, each applied once, in a transaction, and never changed afterwards.

`<room>/schema/0001_name.sql`; beside it `0001_name.timescale.sql` takes its place on that edition. Migrations only
add, and what a newer release has applied is left alone: so a release runs on the schema of the next.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from homelab_agent import __version__
from homelab_agent.core.errors import AgentError
from homelab_agent.database.editions import PLAIN
from homelab_agent.database.pool import Connection

ROOMS = Path(__file__).parents[1]
APPLY_SECONDS = 3600.0
_FILE = re.compile(r"(?P<number>\d{4})_(?P<name>[a-z0-9_]+)(?:\.(?P<edition>[a-z]+))?\.sql")
_LOCK = 0x686F6D656C6162  # "homelab": one agent migrates a shared database at a time


class SchemaFaulty(AgentError):
    """The schema is not what this release needs."""


class MigrationChanged(SchemaFaulty):
    """The migration {file} is not what was applied to this database on {applied}."""

    repair = "put the file back as it was released (git checkout {file}); a change of schema is a new file"


class MigrationFailed(SchemaFaulty):
    """The migration {file} failed; the database is as it was before it."""

    repair = "homelab-agent db migrate --plan"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of a room's schema, as this edition needs it."""

    room: str
    number: int
    name: str
    file: str
    sql: str

    @property
    def checksum(self) -> str:
        """What the file's text is known by; line ends do not count."""
        return hashlib.sha256("\n".join(self.sql.splitlines()).encode()).hexdigest()

    @property
    def key(self) -> tuple[str, int]:
        """What the migration is known by in the database."""
        return self.room, self.number


@dataclass(frozen=True, slots=True)
class Applied:
    """A migration that this database has had."""

    checksum: str
    on: str


def load(edition: str, rooms: Path = ROOMS) -> list[Migration]:
    """Return every room's migrations in the order in which they are applied: this room's first, then by name."""
    found: dict[tuple[str, int], Migration] = {}
    for path in sorted(rooms.glob("*/schema/[0-9]*.sql")):
        parts = _FILE.fullmatch(path.name)
        if parts is None:
            message = f"{path} is not named like 0001_name.sql"
            raise ValueError(message)
        if parts["edition"] not in {None, edition}:
            continue
        room = path.parents[1].name
        file = str(path.relative_to(rooms.parent))
        migration = Migration(room, int(parts["number"]), parts["name"], file, path.read_text(encoding="utf-8"))
        before = found.get(migration.key)
        if before is not None and before.name != migration.name:
            message = f"{before.file} and {file} have one number"
            raise ValueError(message)
        # "0001_name.sql" sorts before its variant "0001_name.timescale.sql", which replaces it here.
        found[migration.key] = migration
    return sorted(found.values(), key=lambda each: (each.room != "database", each.room, each.number))


def pending(migrations: Iterable[Migration], applied: Mapping[tuple[str, int], Applied]) -> list[Migration]:
    """Return what is still to be applied; raises `MigrationChanged` for a file that was changed since it was."""
    missing = []
    for migration in migrations:
        before = applied.get(migration.key)
        if before is None:
            missing.append(migration)
        elif before.checksum != migration.checksum:
            raise MigrationChanged(file=migration.file, applied=before.on)
    return missing


async def read_applied(connection: Connection) -> dict[tuple[str, int], Applied]:
    """Return the migrations that this database has had."""
    # Not by `to_regclass`: in a transaction that has waited for a lock, names may be known as they were before.
    if not await connection.fetchval(
        "SELECT count(*) FROM pg_tables WHERE schemaname = 'homelab' AND tablename = 'schema_migration'"
    ):
        return {}
    rows = await connection.fetch(
        "SELECT room, number, checksum, to_char(applied_at, 'YYYY-MM-DD') AS day FROM homelab.schema_migration"
    )
    return {(row["room"], row["number"]): Applied(row["checksum"], row["day"]) for row in rows}


async def apply(connection: Connection, migrations: Sequence[Migration], *, edition: str = PLAIN) -> list[Migration]:
    """Apply what is missing, each file in a transaction of its own, and return what was applied here.

    Raises `MigrationChanged` before anything is done, `MigrationFailed` for a file that PostgreSQL refuses.
    """
    done = []
    for migration in pending(migrations, await read_applied(connection)):
        async with connection.transaction():
            await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})", timeout=APPLY_SECONDS)
            if not pending([migration], await read_applied(connection)):
                continue  # another agent was quicker
            try:
                await connection.execute(migration.sql, timeout=APPLY_SECONDS)
            except asyncpg.PostgresError as error:
                raise MigrationFailed(file=migration.file, cause=error) from error
            await connection.execute(
                "INSERT INTO homelab.schema_migration (room, number, name, checksum, edition, release)"
                " VALUES ($1, $2, $3, $4, $5, $6)",
                migration.room, migration.number, migration.name, migration.checksum, edition, __version__,
            )  # fmt: skip
        done.append(migration)
    return done
