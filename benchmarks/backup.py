"""The engine `archive` beside `tar -czf`, `tar | zstd`, `zstd | sha256sum` and `zstd | tar`, on the same files.

`python -m benchmarks.backup MEGABYTES` does it with less data.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from benchmarks.process import figure, peak_megabytes, restart_peak, rss_megabytes
from homelab_agent.backup.archive.engine import ArchiveEngine
from homelab_agent.backup.point import Archive, Copied, Point, Source
from homelab_agent.core.clock import SystemClock

ROUNDS = 3
MEGABYTES = 3000
_MIB = 1024 * 1024
_ROW = 64
_SET = "benchmark"


def run(*, minutes: float, megabytes: int = MEGABYTES) -> None:  # noqa: ARG001 - it ends when it is done
    """Measure: copy, read back, verify, unpack; each beside its peer, by turns."""
    with tempfile.TemporaryDirectory(prefix="homelab-agent-benchmark-") as directory:
        place = Path(directory)
        data = place / "data"
        make(data, megabytes)
        print(f"{bytes_below(data) / 1e9:.2f} GB; median of {ROUNDS} by turns; MB/s of what is stored")
        asyncio.run(_Rounds(place, data).run())


class _Rounds:
    def __init__(self, place: Path, data: Path) -> None:
        self._place = place
        self._data = data
        self._bytes = bytes_below(data)
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._engine = ArchiveEngine(place / "archives")
        self._point = Point(_SET, SystemClock().read().wall, "crash", [Source("volumes/data", data)])

    async def run(self) -> None:
        self._shell("tar -czf", 'tar -C "$1" -czf "$2/a.tar.gz" . && sync "$2/a.tar.gz"')
        sizes = {"tar -czf": (self._place / "a.tar.gz").stat().st_size}
        (self._place / "a.tar.gz").unlink()
        rest = rss_megabytes(os.getpid())
        restart_peak()
        for _ in range(ROUNDS):
            self._shell(
                "tar | zstd", 'tar -C "$1" -cf - . | zstd -1 -T0 -q -f -o "$2/a.tar.zst" && sync "$2/a.tar.zst"'
            )
            archive = await self._round()
            self._shell("zstd | sha256sum", 'zstd -dcq "$2/a.tar.zst" | sha256sum')
            self._shell("zstd | tar -x", 'mkdir "$2/theirs" && zstd -dcq "$2/a.tar.zst" | tar -C "$2/theirs" -x')
            shutil.rmtree(self._place / "theirs")
            sizes |= {"tar | zstd": (self._place / "a.tar.zst").stat().st_size, "archive": archive.stored_bytes}
            await self._engine.forget(archive.id)
        self._tell(peak_megabytes(os.getpid()) - rest)
        print(", ".join(f"{name}: {size / 1e6:.0f} MB" for name, size in sizes.items()))

    async def _round(self) -> Archive:
        began = time.monotonic()
        copied: Copied = await self._engine.copy(self._point, _quiet)
        self._seconds["copy"].append(time.monotonic() - began)
        began = time.monotonic()
        archive = await self._engine.finish(copied, self._point, _quiet)
        self._seconds["finish"].append(time.monotonic() - began)
        began = time.monotonic()
        assert (await self._engine.verify(archive.id, _quiet)).good
        self._seconds["verify"].append(time.monotonic() - began)
        into = self._place / "ours"
        into.mkdir()
        began = time.monotonic()
        assert (await self._engine.restore(archive.id, into, [], _quiet)).good
        self._seconds["restore"].append(time.monotonic() - began)
        shutil.rmtree(into)
        return archive

    def _shell(self, name: str, script: str) -> None:
        began = time.monotonic()
        words = ["bash", "-o", "pipefail", "-c", script, "sh", str(self._data), str(self._place)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        self._seconds[name].append(time.monotonic() - began)

    def _tell(self, memory_megabytes: float) -> None:
        rate: Callable[[str], float] = lambda name: self._bytes / 1e6 / statistics.median(self._seconds[name])  # noqa: E731
        figure("tar -czf (once)", rate("tar -czf"), "MB/s")
        figure("tar | zstd -1 -T0, synced", rate("tar | zstd"), "MB/s")
        figure("archive: copy, synced", rate("copy"), "MB/s", least=0.9 * rate("tar | zstd"))
        figure("archive: copy beside tar -czf", rate("copy") / rate("tar -czf"), "times", least=8)
        figure("archive: read back, made to count", rate("finish"), "MB/s")
        figure("zstd -dc | sha256sum", rate("zstd | sha256sum"), "MB/s")
        figure("archive: verify, each file", rate("verify"), "MB/s", least=0.6 * rate("zstd | sha256sum"))
        figure("zstd -dc | tar -x", rate("zstd | tar -x"), "MB/s")
        figure("archive: restore, each file hashed", rate("restore"), "MB/s", least=0.6 * rate("zstd | tar -x"))
        figure("archive: memory over rest, at its most", memory_megabytes, "MB", bound=120)


def make(data: Path, megabytes: int) -> None:
    """Make so much: pages of a database (five sixths), what does not compress, and logs, always the same."""
    chance = random.Random(7)
    for name in ("pages", "chunks", "logs"):
        (data / name).mkdir(parents=True)
    row = b"\0\0\0\0\0\0\0\0\0\0cpu_seconds_total{host=homelab,mode=idle}\0\0\x08\0\x1c\0\0\0\0\0\0\0"[:_ROW]
    template = row.ljust(_ROW, b"\0") * (_MIB // _ROW)
    for number in range(8):
        with (data / "pages" / f"{16384 + number}").open("wb") as file:
            for _ in range(megabytes * 10 // 12 // 8):
                page = bytearray(template)
                for column in range(10):
                    page[column::_ROW] = chance.randbytes(_MIB // _ROW)
                file.write(page)
    for number in range(megabytes * 400 // 3000):
        (data / "chunks" / f"{number:04}").write_bytes(chance.randbytes(_MIB))
    for number in range(10):
        with (data / "logs" / f"{number}.log").open("w") as file:
            while file.tell() < megabytes * 20 * _MIB // 3000:
                lines = (
                    {"at": i, "level": "info", "id": chance.randrange(1 << 48), "said": "it is so"} for i in range(500)
                )
                file.writelines(f"{json.dumps(line)}\n" for line in lines)


def bytes_below(folder: Path) -> int:
    """Return what the files below a folder hold."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _quiet(done: int, total: int | None, what: str) -> None:
    """Be told how far one is."""


if __name__ == "__main__":
    run(minutes=0, megabytes=int(sys.argv[1]) if len(sys.argv) > 1 else MEGABYTES)
