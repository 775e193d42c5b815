"""What goes over the socket: frames of a length (4 bytes, big-endian) and that many bytes of JSON, an object.

A call is a connection. The caller sends one frame, `{"verb": ..., "arguments": {...}}`, and descriptors beside it
(unix(7), SCM_RIGHTS); when the half is ready to do it, one byte, `GO`. So both know whether it was begun, also when the
caller has given up meanwhile. All that it can say after that is that it wants no more, by closing its direction: what
the verb holds is released, and what holds nothing is cancelled. The half says

    {"ready": {}}                      it would do that
    {"line": [stream, text]}           a line of output; any number of them
    {"held": {...}}                    what a lease gives
    {"answer": {...}}                  the last word: it is done
    {"failed": {"message": ...}}       the last word: it is not, in an `AgentError`'s words
    {"refused": reason}                the last word: it is no call that there is
    {"unavailable": {"cause": ...}}    the last word: the half cannot do anything at present
"""

from __future__ import annotations

import array
import asyncio
import json
import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from homelab_agent.core.privilege import DESCRIPTORS_MAX

REQUEST_MAX = 64 * 1024
"""Bytes of a caller's frame."""
LONGEST = 1024 * 1024
"""Bytes of any frame."""

GO = b"+"

_HEAD = 4
_PIECE = 64 * 1024
_QUEUE_FULL_SECONDS = 0.02
_ANCILLARY = socket.CMSG_SPACE(DESCRIPTORS_MAX * array.array("i").itemsize)


class NotAFrame(Exception):
    """What came is not a frame, or more descriptors came with it than may."""


def encode(message: Mapping[str, Any], *, longest: int = LONGEST) -> bytes:
    """Return a message as a frame; raises ValueError when it is too long, TypeError when it is not JSON."""
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > longest:
        text = f"a message of {len(body)} bytes, of which at most {longest} can be sent"
        raise ValueError(text)
    return len(body).to_bytes(_HEAD, "big") + body


def decode(body: bytes) -> dict[str, Any]:
    """Return the object in a frame; raises `NotAFrame`."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotAFrame("not JSON") from error
    if not isinstance(message, dict):
        raise NotAFrame("not a JSON object")
    return message


async def receive_request(connection: socket.socket, held: ExitStack) -> tuple[dict[str, Any], Sequence[int]]:
    """Return the caller's frame and the descriptors that came with it, which `held` closes.

    Reads nothing beyond that frame. Raises `NotAFrame`, or OSError.
    """
    descriptors: list[int] = []
    data = b""
    while missing := _missing(data):
        await readable(connection)
        part, ancillary, flags, _ = connection.recvmsg(missing, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        for descriptor in _passed(ancillary):
            held.callback(os.close, descriptor)
            descriptors.append(descriptor)
        if flags & socket.MSG_CTRUNC or len(descriptors) > DESCRIPTORS_MAX:
            message = f"more than {DESCRIPTORS_MAX} descriptors"
            raise NotAFrame(message)
        if not part:
            message = f"it ended after {len(data)} bytes"
            raise NotAFrame(message)
        data += part
    return decode(data[_HEAD:]), descriptors


def _missing(data: bytes) -> int:
    if len(data) < _HEAD:
        return _HEAD - len(data)
    length = int.from_bytes(data[:_HEAD], "big")
    if length > REQUEST_MAX:
        message = f"a frame of {length} bytes"
        raise NotAFrame(message)
    return _HEAD + length - len(data)


def _passed(ancillary: Sequence[tuple[int, int, bytes]]) -> Sequence[int]:
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return descriptors


async def connected(path: Path) -> socket.socket:
    """Return a connection to who listens at `path`; raises OSError, and waits while too many others do."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        while True:
            try:
                connection.connect(str(path))
            except BlockingIOError:  # its queue is full, and nothing tells when it no longer is (connect(2))
                await asyncio.sleep(_QUEUE_FULL_SECONDS)
            else:
                return connection
    except BaseException:
        connection.close()
        raise


async def send_request(connection: socket.socket, message: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    """Send the caller's frame, with copies of `descriptors`; raises ValueError for one too long, or OSError."""
    frame = encode(message, longest=REQUEST_MAX)
    sent = socket.send_fds(connection, [frame], descriptors)  # a new connection has room for some of it
    await asyncio.get_running_loop().sock_sendall(connection, frame[sent:])


async def receive(connection: socket.socket) -> dict[str, Any]:
    """Return the half's next frame; raises `NotAFrame` when there is none, or OSError."""
    length = int.from_bytes(await _exactly(connection, _HEAD), "big")
    if length > LONGEST:
        message = f"a frame of {length} bytes"
        raise NotAFrame(message)
    return decode(await _exactly(connection, length))


async def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = await asyncio.get_running_loop().sock_recv(connection, min(size - len(data), _PIECE))
        if not part:
            raise NotAFrame("the connection has ended")
        data += part
    return bytes(data)


async def readable(descriptor: int | socket.socket) -> None:
    """Return when something can be read from it, or its other end has closed."""
    loop = asyncio.get_running_loop()
    is_readable = asyncio.Event()
    loop.add_reader(descriptor, is_readable.set)
    try:
        await is_readable.wait()
    finally:
        loop.remove_reader(descriptor)
