"""Rows from one server into a table of another, by COPY in its binary format; a bounded part of them is in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import asyncpg

from homelab_agent.database.insert import quoted
from homelab_agent.database.pool import Connection

AHEAD = 16
"""So many of the source's packets may wait for the target."""
COPY_SECONDS = 300.0
"""A piece takes seconds. A target that dies while it may not be written to is not always noticed before."""


async def pour(
    source: Connection, query: str, arguments: Sequence[object], target: Connection, table: str, columns: Sequence[str]
) -> None:
    """Copy what a query gives into columns of a table, which is named with its schema."""
    waiting: asyncio.Queue[bytes] = asyncio.Queue(AHEAD)

    async def give(data: bytes) -> None:
        await waiting.put(bytes(data))

    async def read() -> None:
        await source.copy_from_query(query, *arguments, output=give, format="binary", timeout=COPY_SECONDS)
        await waiting.put(b"")

    async def packets() -> AsyncIterator[bytes]:
        while data := await waiting.get():
            yield data

    async def write() -> None:
        schema, _, name = table.partition(".")
        await target.copy_to_table(
            name, source=packets(), schema_name=schema, columns=list(columns), format="binary", timeout=COPY_SECONDS
        )
        lost.cancel()

    gone = asyncio.Event()

    def notice(_: object) -> None:
        gone.set()

    async def watch() -> None:
        """Fail once the target is lost: asyncpg, while it may write no more just then, waits on without a word."""
        await gone.wait()
        raise asyncpg.ConnectionDoesNotExistError("the target's connection was closed")

    target.add_termination_listener(notice)
    try:
        async with asyncio.TaskGroup() as both:
            lost = both.create_task(watch())
            both.create_task(read())
            both.create_task(write())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None  # the others were cancelled for it
    finally:
        target.remove_termination_listener(notice)


async def stage(target: Connection, like: str, columns: Sequence[str], name: str = "move_piece") -> str:
    """Make an empty table for one transaction, with some of another's columns; return its name."""
    listed = ", ".join(quoted(each) for each in columns)
    await target.execute(f"CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS SELECT {listed} FROM {like} WITH NO DATA")  # noqa: S608
    return f"pg_temp.{name}"
