"""Pipes between us and a child: what it writes or reads is never held as a whole."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

from homelab_agent.core import process

PIECE_BYTES = 1024 * 1024
FROM_DESCRIPTOR = 'exec "$@" <"/dev/fd/$0"'
TO_DESCRIPTOR = 'exec "$@" >"/dev/fd/$0"'
"""Run by sh -c, with a descriptor's number and the child's words: what it then reads, or writes, is that descriptor."""


async def begun(start: Callable[[int], Awaitable[process.Child]], *, reads: bool) -> tuple[int, process.Child]:
    """Start a child with one end of a pipe, the reading one where it `reads`; return the other end, and the child.

    `start` is given the child's end, which is closed here; whoever called closes the other.
    """
    source, sink = os.pipe()
    ours, theirs = (sink, source) if reads else (source, sink)
    try:
        with suppress(OSError):  # a smaller one is slower, and that is all
            fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, PIECE_BYTES)
        return ours, await start(theirs)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)


async def pieces_of(source: int) -> AsyncIterator[bytes]:
    """Yield what comes from a pipe until its end."""
    while piece := await asyncio.to_thread(os.read, source, PIECE_BYTES):
        yield piece


async def pour(pieces: AsyncIterator[bytes], sink: int) -> None:
    """Write all of it; nothing more where the reader has ended, whose exit says why."""
    async for piece in pieces:
        try:
            await asyncio.to_thread(write_all, sink, piece)
        except BrokenPipeError:
            return


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of it; blocking. A disk that is nearly full, or a signal, has write(2) take a part."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
