"""Carries bytes between a client and a server, on the test's own loop; the client may vanish, or an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Relay:
    """Who connects to `address` talks to whom `reach` connects to; where that raises OSError, to nobody."""

    def __init__(self, reach: Callable[[], Awaitable[Streams]]) -> None:
        self.address = ""
        self.lost = 0
        self._reach = reach
        self._unanswered = b""
        self._carriers: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []

    def lose_answer_to(self, words: bytes) -> None:
        """Have the next of these words reach the server, and end the connection instead of its answer."""
        self._unanswered = words

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Relay]:
        """Carry until the context ends."""
        listening = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        self.address = "{}:{}".format(*listening.sockets[0].getsockname())
        try:
            yield self
        finally:
            listening.close()
            for carrier in self._carriers:
                carrier.cancel()
            await asyncio.gather(*self._carriers, return_exceptions=True)
            for writer in self._writers:  # also of a carrier that was cancelled before it began
                writer.transport.abort()
            await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._carriers.append(asyncio.create_task(self._carry(reader, writer)))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await self._reach()
        except OSError:
            writer.transport.abort()
            return
        self._writers.append(back)
        answers = asyncio.create_task(_pour(there, writer))
        try:
            while data := await reader.read(65536):
                if is_last := bool(self._unanswered) and self._unanswered in data:
                    answers.cancel()
                    await asyncio.gather(answers, return_exceptions=True)
                back.write(data)
                await back.drain()
                if is_last:
                    self._unanswered = b""
                    self.lost += bool(await there.read(65536))
                    break
        except OSError:
            pass
        finally:
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)
            writer.transport.abort()
            back.transport.abort()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()
