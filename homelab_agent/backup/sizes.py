"""How much there is to read at a place: a walk within bounds, beside the loop."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from homelab_agent.backup import reserved
from homelab_agent.backup.point import Source

ENTRIES_MAX = 5_000_000
SECONDS_MAX = 120.0
BLOCK = 512
"""What st_blocks counts in, on every file system."""
_CACHE_TAG = "CACHEDIR.TAG"


@dataclass(frozen=True, slots=True)
class Size:
    """What tar would read: holes and second links to a file not counted; `complete` unless a bound was met."""

    bytes: int = 0
    files: int = 0
    complete: bool = True
    missing: bool = False


async def sizes(sources: Iterable[Source], *, seconds: float = SECONDS_MAX) -> Mapping[Path, Size]:
    """Measure each source, all of them within `seconds`."""
    return await asyncio.to_thread(_measure_all, list(sources), time.monotonic() + seconds)


def _measure_all(sources: Sequence[Source], deadline: float) -> Mapping[Path, Size]:
    return {one.path: _Walk(one, deadline).measure() for one in sources}


class _Walk:
    def __init__(self, source: Source, deadline: float) -> None:
        self._source = source
        self._deadline = deadline
        self._left = ENTRIES_MAX
        self._bytes = self._files = 0
        self._linked: set[tuple[int, int]] = set()
        self._excluded = excluded(tuple(source.exclude))

    def measure(self) -> Size:
        try:
            found = self._source.path.lstat()
        except FileNotFoundError:
            return Size(missing=True)
        self._count(found)
        folders = [self._source.path] if stat.S_ISDIR(found.st_mode) else []
        while folders:
            if self._left < 0 or time.monotonic() > self._deadline:
                return Size(self._bytes, self._files, complete=False)
            folders += self._folder(folders.pop())
        return Size(self._bytes, self._files)

    def _folder(self, folder: Path) -> list[Path]:
        """Count what is in a folder; return the folders in it. What goes or is closed to us counts nothing."""
        below = []
        try:
            with os.scandir(folder) as entries:
                listed = list(entries)
        except OSError:
            return []
        if self._source.exclude_caches and any(entry.name == _CACHE_TAG for entry in listed):
            return []
        for entry in listed:
            self._left -= 1
            path = Path(entry.path)
            if reserved.is_ours(entry.name):
                continue
            if self._excluded is not None and self._excluded.fullmatch(str(path.relative_to(self._source.path))):
                continue
            try:
                self._count(entry.stat(follow_symlinks=False))
                if entry.is_dir(follow_symlinks=False):
                    below.append(path)
            except OSError:
                continue
        return below

    def _count(self, found: os.stat_result) -> None:
        if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
            if (link := (found.st_dev, found.st_ino)) in self._linked:
                return
            self._linked.add(link)
        self._files += 1
        if stat.S_ISREG(found.st_mode):
            self._bytes += min(found.st_size, found.st_blocks * BLOCK)


@lru_cache(64)
def excluded(globs: tuple[str, ...]) -> re.Pattern[str] | None:
    """Return what fits any of these globs, paths being relative to their source; `**` passes over folders."""
    return re.compile("|".join(f"(?:{_expression(glob)})" for glob in globs), re.DOTALL) if globs else None


def _expression(glob: str) -> str:
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(parts.get(token, re.escape(token)) for token in re.findall(r"\*\*/|\*\*|\*|\?|[^*?]+", glob))
