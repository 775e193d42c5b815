"""Rows of every table of a database, made of numbers by the columns' types, whatever tables there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from homelab_agent.database import partitions
from homelab_agent.database.insert import quoted
from homelab_agent.database.pool import Connection

_TABLES = """
SELECT relname AS name, relkind = 'p' AS divided, array_agg(attname::text ORDER BY attnum) AS columns,
       array_agg(format_type(atttypid, NULL) ORDER BY attnum) AS types,
       coalesce(max(key.attributes), '{}') AS key
  FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
  LEFT JOIN LATERAL (
       SELECT array_agg(one.attname::text) AS attributes FROM pg_index
         JOIN pg_attribute AS one ON one.attrelid = indrelid AND one.attnum = ANY (indkey)
        WHERE indrelid = pg_class.oid AND indisprimary) AS key ON true
 WHERE relnamespace = 'homelab'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition AND attnum > 0
   AND NOT attisdropped AND attidentity = '' AND relname <> 'schema_migration' AND relname NOT LIKE 'rollup%'
   AND relname NOT LIKE '%\\_rollup'
 GROUP BY relname, relkind ORDER BY relname
"""
_OF_TYPE = {
    "bigint": "past.n",
    "integer": "past.n::integer",
    "smallint": "(past.n % 30000)::smallint",
    "real": "(past.n % 1000)::real / 8",
    "double precision": "past.n::float8 / 8",
    "numeric": "past.n::numeric",
    "boolean": "past.n % 3 = 0",
    "text": "'text ' || past.n",
    "date": "past.at::date",
    "timestamp with time zone": "past.at",
    "uuid": "md5(past.n::text)::uuid",
    "jsonb": "jsonb_build_object('n', past.n)",
    "text[]": "ARRAY['text ' || past.n]",
    "bytea": "decode(md5(past.n::text), 'hex')",
    "interval": "past.n * interval '1 second'",
}
"""What a column holds in a row of `past`: its number `n`, and the time `at` that it is of; a real is exact."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the types of its columns, whether it is divided by time, and its primary key."""

    name: str
    columns: Mapping[str, str]
    divided: bool
    key: Sequence[str]

    def insert(self, past: str, fixed: Mapping[str, str] = MappingProxyType({})) -> str:
        """Return the statement that puts a row for each `n` and `at` of the query `past`; `fixed` is SQL by column."""
        values = ", ".join(fixed.get(name, _OF_TYPE[kind]) for name, kind in self.columns.items())
        listed = ", ".join(map(quoted, self.columns))
        return f"INSERT INTO homelab.{quoted(self.name)} ({listed}) SELECT {values} FROM ({past}) AS past"


async def tables(connection: Connection) -> list[Table]:
    """Return those that rows are put into; not what the database keeps of them by itself."""
    return [
        Table(row["name"], dict(zip(row["columns"], row["types"], strict=True)), row["divided"], row["key"])
        for row in await connection.fetch(_TABLES)
    ]


async def put(connection: Connection, table: Table, number: int, at: datetime) -> None:
    """Put one row."""
    if table.divided:
        await partitions.ensure(connection, table.name, [partitions.month(at)])
    await connection.execute(table.insert("SELECT $1::bigint AS n, $2::timestamptz AS at"), number, at)


async def has(connection: Connection, table: Table, number: int, at: datetime) -> bool:
    """Return whether exactly that row is there, with all that was put into it."""
    same = " AND ".join(f"kept.{quoted(name)} = ({_OF_TYPE[kind]})" for name, kind in table.columns.items())
    past = "(SELECT $1::bigint AS n, $2::timestamptz AS at) AS past"
    query = f"SELECT count(*) FROM homelab.{quoted(table.name)} AS kept, {past}"
    return bool(await connection.fetchval(f"{query} WHERE {same}", number, at) == 1)
