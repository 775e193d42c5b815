"""What a child says: its last bytes, its lines as they come, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Literal, TypeAlias

Stream: TypeAlias = Literal["stdout", "stderr"]
OnLine: TypeAlias = Callable[[Stream, str], None]
"""Called with where a line came from and the line, without its end; must neither block nor raise."""

STREAMS: tuple[Stream, Stream] = ("stdout", "stderr")
LINE_MAX = 64 * 1024
"""Bytes; a longer line comes in pieces."""


class Tail:
    """The last `longest` bytes of a stream of any length, in at most about twice that much memory."""

    def __init__(self, longest: int) -> None:
        self.truncated = False
        self._longest = longest
        self._kept = bytearray()

    def add(self, data: bytes) -> None:
        """Take what comes next."""
        self._kept += data
        if len(self._kept) > self._longest:
            self.truncated = True
        if len(self._kept) > 2 * self._longest:
            del self._kept[: len(self._kept) - self._longest]

    def bytes(self) -> bytes:
        """Return what is kept."""
        return bytes(self._kept[max(0, len(self._kept) - self._longest) :])


class Lines:
    """Cuts a stream into lines, also at a carriage return, as progress is drawn; empty ones are left out."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = b""

    def add(self, data: bytes) -> None:
        """Take what comes next."""
        *lines, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            self._say(line)
        while len(self._rest) > LINE_MAX:
            self._say(self._rest[:LINE_MAX])
            self._rest = self._rest[LINE_MAX:]

    def end(self) -> None:
        """Take what is left for a line."""
        self._say(self._rest)
        self._rest = b""

    def _say(self, line: bytes) -> None:
        if line:
            self._on_line(line.decode("utf-8", "replace"))


class Output(asyncio.SubprocessProtocol):
    """Receives a child's two outputs and its end; asyncio calls it."""

    def __init__(self, output_max: int, on_line: OnLine | None) -> None:
        self.stdout = Tail(output_max)
        self.stderr = Tail(output_max)
        self.exited = asyncio.Event()
        self.closed = asyncio.Event()
        self._lines = [] if on_line is None else [Lines(partial(on_line, name)) for name in STREAMS]

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Take what the child wrote to 1 or 2."""
        (self.stdout if fd == 1 else self.stderr).add(data)
        if self._lines:
            self._lines[fd - 1].add(data)

    def process_exited(self) -> None:
        """Note that the program has ended; its output may not have arrived yet."""
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Note that the program has ended and its output has."""
        for lines in self._lines:
            lines.end()
        self.closed.set()
