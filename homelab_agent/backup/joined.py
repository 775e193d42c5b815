"""A dump as an engine has unpacked it: one file, or several that it was cut into and that are read as one."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from homelab_agent.backup.point import Contents

_BYTES = 1024 * 1024


def members(contents: Contents, dump: str) -> Sequence[str]:
    """Return the members that a dump was cut into, in order; the dump itself where it was not cut."""
    found = [name for name in contents.files if name.startswith(f"{dump}/")]
    return sorted(found, key=lambda name: (len(name), name)) or [dump]


def copy(files: Iterable[Path], sink: BinaryIO) -> None:
    """Write all that is in them; blocking."""
    for one in files:
        with one.open("rb") as source:
            shutil.copyfileobj(source, sink, _BYTES)


async def read(files: Iterable[Path]) -> AsyncGenerator[bytes, None]:
    """Give all that is in them, bit by bit."""
    for one in files:
        file = await asyncio.to_thread(one.open, "rb", 0)
        try:
            while piece := await asyncio.to_thread(file.read, _BYTES):
                yield piece
        finally:
            file.close()
