"""The two-way stream of a command in a container: the API's hijacked connection, read frame by frame.

aiodocker reads it as fast, and cannot end the command's input and go on reading its output, which a load needs. Here
nothing is held but the frame under way: who reads slowly slows the command. (Engine API, "Attach to a container": a
frame is one byte that names the stream, three zeros, the length in four bytes, most significant first, and the bytes.)
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

PIECE_BYTES = 256 * 1024
"""The most that is given at once; also what is read ahead."""
_HEAD_BYTES = 64 * 1024
_FRAME = struct.Struct(">BxxxL")
_OUT, _ERROR = 1, 2
_UPGRADED = (b"101", b"200")


class NotUpgraded(Exception):
    """The engine answered, and not with the stream: `status` and what it said."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class ExecStream:
    """An open one; `read` gives what the command writes, until it has closed both its outputs."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> AsyncIterator[tuple[bool, bytes]]:
        """Give pieces, with whether they are of its standard error; raises IncompleteReadError where it is cut off."""
        while True:
            head = await self._reader.read(_FRAME.size)
            if not head:
                return
            if len(head) < _FRAME.size:
                head += await self._reader.readexactly(_FRAME.size - len(head))
            kind, left = _FRAME.unpack(head)
            while left:
                piece = await self._reader.read(min(left, PIECE_BYTES))
                if not piece:
                    raise asyncio.IncompleteReadError(b"", left)
                left -= len(piece)
                if kind in {_OUT, _ERROR}:
                    yield kind == _ERROR, piece

    async def feed(self, pieces: AsyncIterator[bytes]) -> None:
        """Write the command's standard input, and end it. A command that reads no more is left to say why itself."""
        with suppress(ConnectionError):
            async for piece in pieces:
                for start in range(0, len(piece), PIECE_BYTES):
                    self._writer.write(piece[start : start + PIECE_BYTES])
                    await self._writer.drain()
            self._writer.write_eof()

    def cut(self) -> None:
        """End the connection, so that who reads wakes up."""
        self._writer.transport.abort()


@asynccontextmanager
async def opened(socket: Path, path: str) -> AsyncIterator[ExecStream]:
    """Begin the command (`path` is `/v1.41/exec/ID/start`) and give its stream; raises `NotUpgraded`, OSError."""
    reader, writer = await asyncio.open_unix_connection(socket, limit=PIECE_BYTES)
    try:
        body = json.dumps({"Detach": False, "Tty": False}).encode()
        lines = [
            f"POST {path} HTTP/1.1",
            "Host: docker",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: Upgrade",
            "Upgrade: tcp",
        ]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        status = head.split(b" ", 2)[1]
        if status not in _UPGRADED:
            raise NotUpgraded(int(status), await _said(reader))
        yield ExecStream(reader, writer)
    finally:
        writer.transport.abort()  # close() would first wait until what nobody reads any more is sent
        with suppress(OSError):
            await writer.wait_closed()


async def _said(reader: asyncio.StreamReader) -> str:
    """Return the engine's own message; it ends, or is cut, within a bound."""
    with suppress(ValueError, TimeoutError):
        async with asyncio.timeout(1):
            text = await reader.read(_HEAD_BYTES)
        message: Any = json.loads(text)["message"]
        return str(message)
    return ""
