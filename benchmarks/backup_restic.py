"""The engine `restic` beside a bare `restic backup` and Debian's borg, on the same files; first and unchanged runs.

`python -m benchmarks.backup_restic MEGABYTES` does it with less data.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from benchmarks.backup import MEGABYTES, ROUNDS, bytes_below, make
from benchmarks.process import figure, peak_megabytes, restart_peak, rss_megabytes
from homelab_agent.backup.point import Point, Source, nobody
from homelab_agent.backup.restic.engine import ResticEngine
from homelab_agent.backup.restic.program import Access
from homelab_agent.core.clock import SystemClock

_PASSWORD = "of the benchmark"
_HOUR = timedelta(hours=1)


def run(*, minutes: float, megabytes: int = MEGABYTES) -> None:  # noqa: ARG001 - it ends when it is done
    """Measure the first run and one where nothing has changed; each beside its peers, by turns."""
    if shutil.which("restic") is None:
        print("restic is not installed: apt install restic")
        return
    with tempfile.TemporaryDirectory(prefix="homelab-agent-benchmark-") as directory:
        place = Path(directory)
        make(place / "data", megabytes)
        print(f"{bytes_below(place / 'data') / 1e9:.2f} GB; median of {ROUNDS} by turns")
        asyncio.run(_Rounds(place).run())


class _Rounds:
    def __init__(self, place: Path) -> None:
        self._place = place
        self._data = place / "data"
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._borg = shutil.which("borg")

    async def run(self) -> None:
        rest = rss_megabytes(os.getpid())
        restart_peak()
        for number in range(ROUNDS):
            here = self._place / str(number)
            here.mkdir()
            self._bare(here)
            await self._ours(here)
            self._with_borg(here)
            shutil.rmtree(here)
        self._tell(peak_megabytes(os.getpid()) - rest)

    async def _ours(self, here: Path) -> None:
        clock = SystemClock()
        access = Access("benchmark", str(here / "ours"), _PASSWORD)
        engine = ResticEngine(access, here / "records", host="benchmark", clock=clock)
        await engine.init(kit_is_kept=True)
        point = Point("benchmark", clock.read().wall, "crash", [Source("volumes/data", self._data)])
        for name, each in (("first", point), ("unchanged", replace(point, at=point.at + _HOUR))):
            with self._timed(f"ours, {name}: room"):
                await engine.room("benchmark", 1)
            with self._timed(f"ours, {name}: copy"):
                copied = await engine.copy(each, nobody)
            with self._timed(f"ours, {name}: read back"):
                await engine.finish(copied, each, nobody)

    def _bare(self, here: Path) -> None:
        variables = {
            "RESTIC_REPOSITORY": str(here / "bare"),
            "RESTIC_PASSWORD": _PASSWORD,
            "RESTIC_CACHE_DIR": str(here / "cache"),
        }
        self._peer(["restic", "init"], variables)
        for name in ("first", "unchanged"):
            with self._timed(f"restic, {name}"):
                self._peer(["restic", "backup", "--quiet", self._data], variables)

    def _with_borg(self, here: Path) -> None:
        if self._borg is None:
            return
        variables = {
            "BORG_REPO": str(here / "borg"),
            "BORG_PASSPHRASE": _PASSWORD,
            "BORG_BASE_DIR": str(here / "base"),
        }
        self._peer([self._borg, "init", "--encryption=repokey"], variables)
        for name in ("first", "unchanged"):
            with self._timed(f"borg, {name}"):
                self._peer([self._borg, "create", "--compression=zstd,1", f"::{name}", self._data], variables)

    def _peer(self, words: Sequence[str | Path], variables: dict[str, str]) -> None:
        subprocess.run(words, env={**os.environ, **variables}, check=True, capture_output=True)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._seconds[name].append(time.monotonic() - began)

    def _tell(self, memory_megabytes: float) -> None:
        found = {name: statistics.median(each) for name, each in self._seconds.items()}
        again = sum(seconds for name, seconds in found.items() if name.startswith("ours, unchanged"))
        overhead = 100 * (found["ours, first: copy"] / found["restic, first"] - 1)
        for name in ("restic, first", "borg, first", "restic, unchanged", "borg, unchanged"):
            if name in found:
                figure(name, found[name], "s")
        for name in ("room", "copy", "read back"):
            figure(f"ours, first: {name}", found[f"ours, first: {name}"], "s")
        figure("ours, first: copy over bare restic backup", overhead, "%", bound=5)
        figure("ours, unchanged: while all stands still", found["ours, unchanged: copy"], "s")
        figure("ours, unchanged: whole run", again, "s", bound=2 + found["ours, unchanged: copy"])
        figure("ours: memory over rest, at its most", memory_megabytes, "MB", bound=120)
        if self._borg is None:
            print("borg is not installed: apt install borgbackup")


if __name__ == "__main__":
    run(minutes=0, megabytes=int(sys.argv[1]) if len(sys.argv) > 1 else MEGABYTES)
