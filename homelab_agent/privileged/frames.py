"""What goes over the socket: frames of a length (4 bytes, big-endian) and so many bytes of JSON, an object.

A call is a connection. The caller sends one frame, `{"verb": ..., "arguments": {...}}`, with descriptors beside its
first byte (unix(7), SCM_RIGHTS). The half sends any number of `{"line": [stream, text]}`, at most one
`{"held": {...}}`, and at last `{"answer": {...}}` or `{"error": {...}}`. That the caller closes, if only its own
direction, lets go of what is held, and ends what is not.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from homelab_agent.core.privilege import DESCRIPTORS_MAX

LONGEST = 1024 * 1024
"""Bytes of one frame; a call's is at most `CALL_LONGEST`."""
CALL_LONGEST = 64 * 1024
_HEAD = 4


class FrameFaulty(Exception):
    """What came is not a frame."""


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a message as a frame; raises ValueError where it is too long."""
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > LONGEST:
        text = f"an answer of {len(body)} bytes"
        raise ValueError(text)
    return len(body).to_bytes(_HEAD, "big") + body


def decode(body: bytes) -> dict[str, Any]:
    """Return the object in a frame; raises `FrameFaulty`."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FrameFaulty from error
    if not isinstance(message, dict):
        raise FrameFaulty
    return message


async def receive_call(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return the frame that a call begins with, and its descriptors, which are the caller's to close.

    Raises `FrameFaulty`, also where more comes than one frame and `DESCRIPTORS_MAX` descriptors.
    """
    data, descriptors = b"", list[int]()
    try:
        while (missing := _missing(data)) > 0:
            await readable(connection)
            part, came, flags, _ = socket.recv_fds(connection, missing, DESCRIPTORS_MAX, socket.MSG_CMSG_CLOEXEC)
            descriptors += came
            if not part or flags & socket.MSG_CTRUNC or len(descriptors) > DESCRIPTORS_MAX:
                raise FrameFaulty
            data += part
        return decode(data[_HEAD:]), descriptors
    except BaseException:
        close(descriptors)
        raise


def _missing(data: bytes) -> int:
    """Return how many bytes of the frame are still to come; raises `FrameFaulty` for one that is too long."""
    if len(data) < _HEAD:
        return _HEAD - len(data)
    length = int.from_bytes(data[:_HEAD], "big")
    if length > CALL_LONGEST:
        raise FrameFaulty
    return _HEAD + length - len(data)


def send_call(connection: socket.socket, message: Mapping[str, Any], descriptors: Sequence[int]) -> bytes:
    """Send a call's first bytes with its descriptors, without waiting; return the bytes that are still to be sent."""
    frame = encode(message)
    sent = socket.send_fds(connection, [frame], descriptors)
    return frame[sent:]


async def receive(reader: asyncio.StreamReader) -> dict[str, Any]:
    """Return the next frame of the half's; raises `FrameFaulty`, `asyncio.IncompleteReadError`, OSError."""
    length = int.from_bytes(await reader.readexactly(_HEAD), "big")
    if length > LONGEST:
        raise FrameFaulty
    return decode(await reader.readexactly(length))


async def readable(connection: socket.socket) -> None:
    """Return when something has come, or the other end has closed."""
    loop = asyncio.get_running_loop()
    came = loop.create_future()

    def settle() -> None:
        if not came.done():
            came.set_result(None)

    loop.add_reader(connection, settle)
    try:
        await came
    finally:
        loop.remove_reader(connection)


def close(descriptors: Sequence[int]) -> None:
    """Close descriptors."""
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)
