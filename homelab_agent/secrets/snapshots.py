"""The snapshots of OpenBao's storage that are kept: one after each run, the oldest let go once a new one is there."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Protocol

from homelab_agent.core.clock import Clock
from homelab_agent.core.jobs import Outcome, Run

_NAME = re.compile(r"openbao-\d{8}T\d{6}Z\.snap")
_MEBIBYTE = 1024 * 1024


class Snapshotter(Protocol):
    """Who takes a snapshot (`client.Client`)."""

    async def snapshot(self, to: Path) -> int:
        """Write one to a file of the agent's alone, examined, or nothing; return its bytes. Raises AgentError."""


class Snapshots:
    """A directory of snapshots, each named after its moment in UTC; what else is there stays."""

    def __init__(self, taker: Snapshotter, directory: Path, clock: Clock, *, keep: int) -> None:
        self._taker = taker
        self._directory = directory
        self._clock = clock
        self._keep = keep

    async def run(self, _run: Run) -> Outcome:
        """Take one, and let go of the oldest; raises AgentError, and OSError, where none was taken: then all stay."""
        await asyncio.to_thread(self._directory.mkdir, mode=0o700, parents=True, exist_ok=True)
        to = self._directory / f"openbao-{self._clock.read().wall:%Y%m%dT%H%M%SZ}.snap"
        size = await self._taker.snapshot(to)
        kept = await asyncio.to_thread(self._prune)
        return Outcome(ok=True, detail=f"{to.name}: {size / _MEBIBYTE:.1f} MiB; {kept} are kept in {self._directory}")

    def _prune(self) -> int:
        """Remove the oldest, and what a run that was killed has left; return how many there are."""
        found = sorted(path for path in self._directory.iterdir() if _NAME.fullmatch(path.name))
        for path in found[: -self._keep]:
            path.unlink()
        for path in self._directory.glob("openbao-*.snap.new"):
            path.unlink()
        return min(len(found), self._keep)
