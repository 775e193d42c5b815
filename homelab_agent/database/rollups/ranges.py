"""Which buckets are to be done again: pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TypeAlias

from homelab_agent.database.rollups.level import Level

Range: TypeAlias = tuple[datetime, datetime]
"""From the first time until before the second."""


def touched(times: Iterable[Range], level: Level) -> list[Range]:
    """Return the buckets that times are in, both ends of each pair included; those side by side as one range."""
    return _merged((level.floor(first), level.floor(last) + level.width) for first, last in times)


def widened(ranges: Iterable[Range], level: Level) -> list[Range]:
    """Return the coarser buckets that ranges have a part in."""
    return _merged((level.floor(begin), level.ceil(end)) for begin, end in ranges)


def since(ranges: Iterable[Range], begin: datetime | None) -> list[Range]:
    """Return what of the ranges lies from `begin` on, where there is one."""
    cut = ((first if begin is None else max(first, begin), last) for first, last in ranges)
    return [(first, last) for first, last in cut if first < last]


def before(ranges: Iterable[Range], end: datetime | None) -> list[Range]:
    """Return what of the ranges lies before `end`: None is before all."""
    if end is None:
        return []
    cut = ((first, min(last, end)) for first, last in ranges)
    return [(first, last) for first, last in cut if first < last]


def _merged(ranges: Iterable[Range]) -> list[Range]:
    found: list[Range] = []
    for begin, end in sorted(ranges):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return found
