"""A page on loopback that answers as it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.clock import until
from tests.neighbours.ports import free_port


@dataclass(slots=True)
class Page:
    """A server that answers each request with the next of `statuses`, and in the end always with the last."""

    statuses: list[int]
    port: int = field(default_factory=free_port)
    asked: int = 0
    met: int = 0
    open: int = 0
    body: bytes = b""
    scheme: str = "http"

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{self.scheme}://127.0.0.1:{self.port}/health"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request; who asks for nothing gets nothing."""
        self.met += 1
        self.open += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await reader.readuntil(b"\r\n\r\n")
                self.asked += 1
                status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
                more = f"Content-Length: {len(self.body)}\r\nLocation: /elsewhere\r\nConnection: close"
                writer.write(f"HTTP/1.1 {status} Said\r\n{more}\r\n\r\n".encode() + self.body)
            writer.close()
        finally:
            self.open -= 1


@contextlib.asynccontextmanager
async def serving(*statuses: int, tls: ssl.SSLContext | None = None, body: bytes = b"") -> AsyncIterator[Page]:
    """Give a page that listens until the context ends."""
    page = Page(list(statuses), body=body, scheme="https" if tls else "http")
    server = await asyncio.start_server(page.answer, "127.0.0.1", page.port, ssl=tls)
    async with server:
        yield page
        await until(lambda: not page.open, "everybody who asked has gone")
