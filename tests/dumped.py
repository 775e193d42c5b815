"""Dumps of databases in containers, read whole and given back piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from homelab_agent.backup import docker as engine
from homelab_agent.backup import dumps
from homelab_agent.backup.dumping import PlannedDump
from homelab_agent.backup.settings import Dump
from tests.freezing import named

PIECE_BYTES = 100_000


async def dumps_of(control: engine.Docker, name: str, kind: str, **given: object) -> list[dumps.Dumped]:
    """Return what there is to dump in a container, asked now."""
    dump = Dump.model_validate({"container": name, "kind": kind, **given})
    return list(await dumps.of(PlannedDump(await named(control, name), dump), control))


async def whole(opened: AbstractAsyncContextManager[AsyncIterator[bytes]]) -> bytes:
    """Return all that it gives."""
    async with opened as pieces:
        return b"".join([piece async for piece in pieces])


async def each(content: bytes) -> AsyncIterator[bytes]:
    """Give it in pieces."""
    for start in range(0, len(content), PIECE_BYTES):
        yield content[start : start + PIECE_BYTES]
