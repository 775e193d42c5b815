"""A process that writes archives, one after the other, and says how far it is: `-m tests.archive_writer TO FROM`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from homelab_agent.backup.archive.engine import ArchiveEngine
from homelab_agent.backup.point import Source
from tests.backed_up import point


def _say(done: int, total: int | None, what: str) -> None:
    print(what, flush=True)


async def _write(directory: Path, volume: Path) -> None:
    engine = ArchiveEngine(directory)
    while True:
        wanted = point(Source("volumes/v", volume))
        copied = await engine.copy(wanted, _say)
        print("is on disk", flush=True)
        archive = await engine.finish(copied, wanted, _say)
        print(f"counts {archive.id}", flush=True)


if __name__ == "__main__":
    asyncio.run(_write(Path(sys.argv[1]), Path(sys.argv[2])))
