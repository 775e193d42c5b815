"""The body of an answer to a question of ours, which may be as long as whoever answers likes."""

from __future__ import annotations

import aiohttp


class TooLong(ValueError):
    """An answer is longer than anything that was asked for."""


async def read(answer: aiohttp.ClientResponse, *, at_most: int) -> bytes:
    """Return the whole body; raises `TooLong` when it has more than `at_most` bytes."""
    found = bytearray()
    async for chunk in answer.content.iter_any():
        found += chunk
        if len(found) > at_most:
            message = f"it answers with more than {at_most} bytes"
            raise TooLong(message)
    return bytes(found)
