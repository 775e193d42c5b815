"""How counters grow: over monotonic time, and never a guess.

A counter that fell was reset; how much it grew before that is not known, so nothing is said (None), and the
row says why. The same holds for the first reading and for two readings too far apart (suspend, a hung
device). A counter that could not be read is None, not 0: nothing is said of it until it was read twice again.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

LONGEST_IN_INTERVALS = 2.5
_ROUND, _HALF_ROUND = 2**32, 2**31
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Growth:
    """How one entity's counters grew in `seconds`: `deltas`, or None for one or for all; `reset` says that one fell."""

    seconds: float
    deltas: Sequence[float | None] | None
    reset: bool = False


UNKNOWN = Growth(0.0, None)


def growth(
    before: Sequence[float | None],
    after: Sequence[float | None],
    seconds: float,
    *,
    longest: float,
    may_fall: Collection[int] = (),
    narrow: Collection[int] = (),
) -> Growth:
    """Return how counters of one entity grew in `seconds` of monotonic time, at most `longest`.

    If one fell, all were reset: one that was small may already have passed its old value. Those at `may_fall` do so
    without a reset; then nothing is known of them alone. Those at `narrow` have 32 bits, and go round.
    """
    if seconds <= 0:
        return UNKNOWN
    deltas: list[float | None] = []
    for place, (old, new) in enumerate(zip(before, after, strict=True)):
        delta = None if old is None or new is None else new - old
        if delta is not None and -_ROUND < delta < _HALF_ROUND - _ROUND and place in narrow:
            delta += _ROUND  # one that fell by less than half of all did not go round
        elif delta is not None and delta < 0:
            if place not in may_fall:
                return Growth(seconds, None, reset=True)
            delta = None
        deltas.append(delta)
    return Growth(seconds, deltas if seconds <= longest else None)


class Counters(Generic[K]):
    """Remembers every entity's counters from one reading to the next; an entity that was away begins anew."""

    def __init__(self, *, may_fall: Collection[int] = (), narrow: Collection[int] = ()) -> None:
        """`may_fall` and `narrow` as in `growth`."""
        self._growth = partial(growth, may_fall=may_fall, narrow=narrow)
        self._before: Mapping[K, Sequence[float | None]] = {}
        self._at = 0.0

    def observe(self, readings: Mapping[K, Sequence[float | None]], at: float, *, interval: float) -> dict[K, Growth]:
        """Take a reading made at the monotonic time `at`; return each entity's growth since the last one.

        `interval` is the time that should lie between two readings, in seconds; None is a counter that is not known.
        """
        seconds, longest = at - self._at, interval * LONGEST_IN_INTERVALS
        grown = {
            key: UNKNOWN
            if (before := self._before.get(key)) is None
            else self._growth(before, now, seconds, longest=longest)
            for key, now in readings.items()
        }
        self._before, self._at = readings, at
        return grown


def per_second(grown: Growth, count: int) -> Sequence[float | None]:
    """Return each of `count` counters' growth per second; None when it is not known."""
    if grown.deltas is None:
        return [None] * count
    return [None if delta is None else round(delta / grown.seconds, 3) for delta in grown.deltas]
