"""One of the two databases of a move, as it is asked: a connection of its own, and what is there by the catalogue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg

from homelab_agent.database import editions, pool
from homelab_agent.database.address import Address, AddressFaulty
from homelab_agent.database.catalogue import FIRST
from homelab_agent.database.editions import TIMESCALE, Edition
from homelab_agent.database.insert import quoted
from homelab_agent.database.pool import Connection
from homelab_agent.database.rollups import series
from homelab_agent.database.rollups.level import LEVELS
from homelab_agent.database.rollups.series import Series

ANSWER_SECONDS = 1800.0
"""To count a month of samples takes its time on an SD card; who says nothing for so long is lost."""

_SESSION = """
SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET extra_float_digits = 1; SET bytea_output = 'hex';
SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET client_min_messages = warning
"""
_DECOMPRESS = "SET timescaledb.max_tuples_decompressed_per_dml_transaction = 0"
"""No bound: what is there already is kept out of a compressed chunk by a look into it."""

_OWN = frozenset({"schema_migration", "rollup", "rollup_late"})
"""What tells of one database itself."""

_TABLES = """
SELECT relname AS name FROM pg_class
 WHERE relnamespace = to_regnamespace('homelab') AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY 1
"""
_COLUMNS = """
SELECT attname AS name, format_type(atttypid, atttypmod) AS type, attidentity <> '' AS counts
  FROM pg_attribute WHERE attrelid = format('homelab.%I', $1::text)::regclass AND attnum > 0 AND NOT attisdropped
   AND attgenerated = '' ORDER BY attnum
"""
_KEYS = """
SELECT array_agg(attname::text ORDER BY ordinality) AS columns
  FROM pg_index CROSS JOIN unnest(indkey) WITH ORDINALITY AS part(attnum, ordinality)
  JOIN pg_attribute ON attrelid = indrelid AND pg_attribute.attnum = part.attnum
 WHERE indrelid = format('homelab.%I', $1::text)::regclass AND indisunique AND indpred IS NULL AND indexprs IS NULL
 GROUP BY indexrelid, indisprimary ORDER BY indisprimary DESC, indexrelid
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the columns that are copied with their types, what its rows are known by, what counts them here.

    A number that the database itself gives (`counts`) says nothing elsewhere; there rows get new ones, in that order.
    """

    name: str
    columns: dict[str, str]
    key: Sequence[str]
    counts: str = ""

    @property
    def target(self) -> str:
        """The name as SQL has it."""
        return f"homelab.{quoted(self.name)}"


@dataclass(slots=True)
class Side:
    """One side; `series` are those that are rolled up, `records` all other tables."""

    connection: Connection
    edition: Edition
    where: Address
    series: list[Series] = field(default_factory=list)
    records: list[Table] = field(default_factory=list)

    @property
    def is_timescale(self) -> bool:
        """Whether TimescaleDB keeps its series."""
        return self.edition.name == TIMESCALE

    async def look(self) -> None:
        """Read from the catalogue what is there."""
        names = [row["name"] for row in await self.connection.fetch(_TABLES)]
        self.series = await series.read(self.connection, TIMESCALE if self.is_timescale else "") if names else []
        apart = {each.name for each in self.series}
        apart |= {each.rollup(level) for each in self.series for level in LEVELS} | _OWN
        self.records = [await self.table(name) for name in sorted(names, key=_entity_first) if name not in apart]

    async def table(self, name: str) -> Table:
        """Return one table."""
        rows = await self.connection.fetch(_COLUMNS, name)
        counted = [row["name"] for row in rows if row["counts"]]
        columns = {row["name"]: row["type"] for row in rows if not row["counts"]}
        keys = [row["columns"] for row in await self.connection.fetch(_KEYS, name)]
        key: Sequence[str] = next((each for each in keys if not set(each) & set(counted)), [])
        return Table(name, columns, key, *counted[:1])


@asynccontextmanager
async def connected(where: Address, *, repair: str) -> AsyncIterator[Side]:
    """Give a side; raises `NeighbourUnreachable`, or `AddressFaulty`, without any password."""
    try:
        connection: Connection = await asyncpg.connect(
            timeout=pool.CONNECT_SECONDS, command_timeout=ANSWER_SECONDS, **where.options
        )
    except asyncpg.ClientConfigurationError:
        raise AddressFaulty from None
    except pool.CANNOT_ASK as error:
        raise pool.unreachable(error, repair) from error
    try:
        await connection.execute(_SESSION)
        edition = await editions.look(connection)
        if edition.timescale:
            await connection.execute(_DECOMPRESS)
        yield Side(connection, edition, where)
    finally:
        connection.terminate()  # nothing that is under way is worth waiting for


def _entity_first(name: str) -> tuple[bool, str]:
    return name != FIRST, name
