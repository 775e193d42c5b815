"""Rows from one server into a table of another, by COPY in its binary format; a bounded part of them is in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import asyncpg

from homelab_agent.database.insert import quoted
from homelab_agent.database.pool import Connection

AHEAD = 16
"""So many of the source's packets may wait for the target."""


class _Waiting:
    """Packets on their way. Once it is over, who gives or takes is told: asyncpg may overhear that it is cancelled."""

    def __init__(self) -> None:
        self._packets: asyncio.Queue[bytes] = asyncio.Queue(AHEAD)
        self._is_over = False

    async def give(self, data: bytes) -> None:
        """Add one, when there is room; an empty one is the end."""
        await self._packets.put(bytes(data))
        self._go_on()

    async def packets(self) -> AsyncIterator[bytes]:
        """Yield them up to the end. Raises when it is over before."""
        while data := await self._packets.get():
            self._go_on()
            yield data
        self._go_on()

    def over(self) -> None:
        """Let nobody wait any longer."""
        self._is_over = True
        while not self._packets.empty():
            self._packets.get_nowait()
        self._packets.put_nowait(b"")

    def _go_on(self) -> None:
        if self._is_over:
            raise asyncpg.ConnectionDoesNotExistError("the other side of the copy has ended")


async def pour(
    source: Connection, query: str, arguments: Sequence[object], target: Connection, table: str, columns: Sequence[str]
) -> None:
    """Copy what a query gives into columns of a table, which is named with its schema."""
    waiting = _Waiting()
    lost = asyncio.Event()

    async def read() -> None:
        await source.copy_from_query(query, *arguments, output=waiting.give, format="binary")
        await waiting.give(b"")

    async def write() -> None:
        schema, _, name = table.partition(".")
        packets = waiting.packets()
        await target.copy_to_table(name, source=packets, schema_name=schema, columns=list(columns), format="binary")

    async def watch() -> None:
        """Fail once the target is lost: asyncpg, while it may write no more just then, waits on without a word."""
        await lost.wait()
        raise asyncpg.ConnectionDoesNotExistError("the target's connection was closed")

    def notice(_: object) -> None:
        lost.set()

    target.add_termination_listener(notice)
    try:
        async with asyncio.TaskGroup() as all_of_them:
            watching = all_of_them.create_task(watch())
            all_of_them.create_task(read())
            writing = all_of_them.create_task(write())
            try:
                await writing
            finally:
                waiting.over()
                watching.cancel()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None  # the others were ended for it
    finally:
        target.remove_termination_listener(notice)


async def stage(target: Connection, like: str, columns: Sequence[str], name: str = "move_piece") -> str:
    """Make an empty table for one transaction, with some of another's columns; return its name."""
    listed = ", ".join(quoted(each) for each in columns)
    await target.execute(f"CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS SELECT {listed} FROM {like} WITH NO DATA")  # noqa: S608
    return f"pg_temp.{name}"
