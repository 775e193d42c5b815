"""What PostgreSQL has of the timeline: the rows of all hosts that share it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import asyncpg

from homelab_agent.core.timeline import Fields, Table, Window
from homelab_agent.database import pool
from homelab_agent.database.address import Address
from homelab_agent.database.database import OTHER_REPAIR
from homelab_agent.database.pool import Connection

ANSWER_SECONDS = 20.0
"""All of it is asked for within; what waits for a lock longer is as good as no answer."""

_THERE = "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('homelab')"


async def read(where: Address, tables: Sequence[Table], window: Window) -> Mapping[str, Sequence[Fields]]:
    """Return the rows of a window by table, all of one moment; a table that is not there yet has none.

    Raises `NeighbourUnreachable`, also where PostgreSQL answers but not this question, or `AddressFaulty`.
    """
    async with pool.single(where, repair=OTHER_REPAIR) as connection:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await _rows(connection, tables, window)
        except TimeoutError as error:
            connection.terminate()  # to part in order would take an answer, too
            raise pool.unreachable(f"no answer within {ANSWER_SECONDS:g} s", OTHER_REPAIR) from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            connection.terminate()
            raise pool.unreachable(error, OTHER_REPAIR) from error


async def _rows(connection: Connection, tables: Sequence[Table], window: Window) -> Mapping[str, Sequence[Fields]]:
    # It ends with the connection: who gave up waiting does not wait for a ROLLBACK either.
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    there = {row["relname"] for row in await connection.fetch(_THERE)}
    wanted = [table for table in tables if table.name in there]
    asked = (window.since, window.until, window.host)
    return {table.name: [dict(row) for row in await connection.fetch(_query(table), *asked)] for table in wanted}


def _query(table: Table) -> str:
    """Return the query for a window; the names are those that a room's own `timeline.py` has."""
    return (
        f'SELECT * FROM homelab."{table.name}" WHERE "{table.began}" IS NOT NULL'  # noqa: S608 - a room's constants
        f' AND ($2::timestamptz IS NULL OR "{table.began}" < $2)'
        f' AND ("{table.ended}" IS NULL OR "{table.ended}" >= $1) AND $3 IN (\'\', host)'
    )
