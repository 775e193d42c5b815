"""How counters grow: over monotonic time, and never a guess.

A counter that fell was reset; how much it grew before that is not known, so nothing is said (None), and the
row says why. The same holds for the first reading and for two readings too far apart (suspend, a hung
device).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

LONGEST_IN_INTERVALS = 2.5
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Growth:
    """How one entity's counters grew in `seconds`: `deltas`, or None; `reset` says that one fell."""

    seconds: float
    deltas: Sequence[float] | None
    reset: bool = False


UNKNOWN = Growth(0.0, None)


def growth(before: Sequence[float], after: Sequence[float], seconds: float, *, longest: float) -> Growth:
    """Return how counters of one entity grew in `seconds` of monotonic time, at most `longest`.

    If one fell, all were reset: one that was small may already have passed its old value.
    """
    if seconds <= 0:
        return UNKNOWN
    deltas = [new - old for old, new in zip(before, after, strict=True)]
    if min(deltas, default=0) < 0:
        return Growth(seconds, None, reset=True)
    return Growth(seconds, deltas if seconds <= longest else None)


class Counters(Generic[K]):
    """Remembers every entity's counters from one reading to the next; an entity that was away begins anew."""

    def __init__(self) -> None:
        self._before: Mapping[K, Sequence[float]] = {}
        self._at = 0.0

    def observe(self, readings: Mapping[K, Sequence[float]], at: float, *, interval: float) -> dict[K, Growth]:
        """Take a reading made at the monotonic time `at`; return each entity's growth since the last one.

        `interval` is the time that should lie between two readings, in seconds.
        """
        seconds, longest = at - self._at, interval * LONGEST_IN_INTERVALS
        grown = {
            key: UNKNOWN if (before := self._before.get(key)) is None else growth(before, now, seconds, longest=longest)
            for key, now in readings.items()
        }
        self._before, self._at = readings, at
        return grown


def per_second(grown: Growth, count: int) -> Sequence[float | None]:
    """Return each of `count` counters' growth per second; None when it is not known."""
    if grown.deltas is None:
        return [None] * count
    return [round(delta / grown.seconds, 3) for delta in grown.deltas]
