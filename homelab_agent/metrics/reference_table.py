"""The reference's table in somebody's PostgreSQL: found, counted, and read in order of time at one moment's state."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from homelab_agent.core.errors import AgentError
from homelab_agent.metrics.retelling import Record

READ_SECONDS = 3600.0
"""How long an answer may take: the first row waits until all are sorted."""
FETCH_ROWS = 1000
COLUMNS = ("time", "host", "os", "metric_type", "payload")

_FIND = """
SELECT format('%I.%I', nspname, relname) AS name, relkind::text AS kind, nspname AS space,
       (SELECT array_agg(attname::text) FROM pg_attribute WHERE attrelid = pg_class.oid AND attnum > 0) AS columns
  FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = to_regclass($1)
"""
_IS_HERE = """
SELECT EXISTS (SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database
                WHERE locktype = 'advisory' AND pid = $1 AND datname = current_database())
"""
_SANE = "time >= TIMESTAMPTZ '2000-01-01' AND time < now() + INTERVAL '1 day'"
_ASKED = "($1::timestamptz IS NULL OR time > $1) AND ($2::timestamptz IS NULL OR time >= $2)"
_WINDOW = f"{_ASKED} AND ($3::timestamptz IS NULL OR time < $3)"


class TableMissing(AgentError):
    """There is no table {table} in {source}."""

    repair = "say where it is: --table SCHEMA.NAME"


class NotOfTheReference(AgentError):
    """{table} is not a table `system_metrics` as it was before: it lacks {lacking}."""

    repair = "say which it is: --table SCHEMA.NAME"


class OwnView(AgentError):
    """{table} is the agent's own view of what it has, and nothing to be imported."""

    repair = "say where the table of before is: --table SCHEMA.NAME, and --from where it is in another database"


@dataclass(frozen=True, slots=True)
class Survey:
    """How many rows are to be read, and how many have no time that can be."""

    rows: int
    untimely: int


@dataclass(frozen=True, slots=True)
class Table:
    """One table, in a transaction that sees it as it was when that began; `source` is the database, for people."""

    connection: Any
    source: str
    name: str

    async def survey(self, after: datetime | None, since: datetime | None, until: datetime | None) -> Survey:
        """Count what is to be read: rows later than `after`, from `since` on and before `until`."""
        row = await self.connection.fetchrow(
            f"SELECT count(*) FILTER (WHERE {_SANE} AND {_WINDOW}) AS rows,"  # noqa: S608 - the name is PostgreSQL's own
            f" count(*) FILTER (WHERE time IS NULL OR NOT ({_SANE})) AS untimely FROM {self.name}",
            after,
            since,
            until,
            timeout=READ_SECONDS,
        )
        return Survey(row["rows"], row["untimely"])

    async def records(
        self, after: datetime | None, since: datetime | None, until: datetime | None
    ) -> AsyncIterator[Sequence[Record]]:
        """Yield them in order of time, some at once."""
        cursor = await self.connection.cursor(
            "SELECT time::timestamptz, host::text, metric_type::text, os::text, payload::text"  # noqa: S608 - as above
            f" FROM {self.name} WHERE {_SANE} AND {_WINDOW} ORDER BY time",
            after,
            since,
            until,
            timeout=READ_SECONDS,
        )
        while found := await cursor.fetch(FETCH_ROWS, timeout=READ_SECONDS):
            yield [Record(*row) for row in found]


async def find(connection: Any, source: str, table: str, *, target: int) -> Table:
    """Return a table, in the transaction that the connection is in; `target` is the session that will write.

    Raises `TableMissing`, `NotOfTheReference`, and `OwnView` where that session's database is this one.
    """
    # One of that name which is not ours is meant first. All is read at once, and sorted: no plan for a quick first row.
    await connection.execute("SET LOCAL search_path = public, homelab; SET LOCAL cursor_tuple_fraction = 1")
    await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0")
    row: Mapping[str, Any] | None
    try:
        async with connection.transaction():
            row = await connection.fetchrow(_FIND, table)
    except asyncpg.PostgresError as error:  # what is no name at all
        raise TableMissing(table=table, source=source, cause=error) from error
    if row is None or row["kind"] not in {"r", "p", "v", "m", "f"}:
        raise TableMissing(table=table, source=source)
    if lacking := [name for name in COLUMNS if name not in (row["columns"] or ())]:
        raise NotOfTheReference(table=row["name"], lacking=", ".join(lacking))
    if row["space"] == "homelab" and await connection.fetchval(_IS_HERE, target):
        raise OwnView(table=row["name"])
    return Table(connection, source, row["name"])
