"""Monthly partitions: made ahead by a daily job, and on demand for any month that rows to be shipped belong to."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from homelab_agent.database.pool import Connection

AHEAD = 2
"""How many months beyond the present one are made ready."""

_PARTITIONED = """
SELECT relname FROM pg_partitioned_table JOIN pg_class ON pg_class.oid = partrelid
 WHERE relnamespace = 'homelab'::regnamespace AND partstrat = 'r' AND partnatts = 1
 ORDER BY relname
"""


def month(at: datetime) -> datetime:
    """Return the beginning of the month, in UTC, that a time belongs to."""
    return at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def months_ahead(now: datetime, count: int = AHEAD) -> list[datetime]:
    """Return the present month and the `count` that follow it."""
    first = month(now)
    later = ((first.year * 12 + first.month - 1 + number) for number in range(count + 1))
    return [first.replace(year=number // 12, month=number % 12 + 1) for number in later]


async def ensure(connection: Connection, table: str, months: Iterable[datetime]) -> None:
    """Make the partitions of one table for those months, where they are missing."""
    async with connection.transaction():
        for each in sorted(months):
            await connection.execute(
                "SELECT homelab.make_partition(format('homelab.%I', $1::text)::regclass, $2)", table, each
            )


async def make_ahead(connection: Connection, now: datetime) -> int:
    """Make every table's partitions for this month and the next `AHEAD`; return how many tables there are."""
    tables = [row["relname"] for row in await connection.fetch(_PARTITIONED)]
    for table in tables:
        await ensure(connection, table, months_ahead(now))
    return len(tables)
