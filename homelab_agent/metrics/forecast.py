"""In how many days a filesystem is full, as its last weeks went; pure.

What is written and deleted again each night or week (backups, logs) must not count as growth, nor one large copy: so
what counts of a day is the most of the seven days up to it, and of all pairs of days the median slope (the Theil-Sen
estimator: P. K. Sen, Estimates of the Regression Coefficient Based on Kendall's Tau, 1968).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from itertools import combinations
from statistics import median

PERIOD_DAYS = 7
"""What repeats within this is no growth."""
LEAST_DAYS = 10
"""For so long it has to be known, not on each of these days: so at least four values of what counts of a day."""
FARTHEST_DAYS = 3650.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """How it goes on: bytes a day (negative where it empties), and in how many days it is full, None for never."""

    bytes_per_day: float
    full_in_days: float | None


def forecast(peaks: Mapping[date, float], available: float) -> Forecast | None:
    """Return how it goes on; None where too little is known.

    `peaks` are the most bytes used on each day, days may be missing; `available` the bytes that can still be written.
    """
    held = _held(peaks)
    if len(held) < LEAST_DAYS - PERIOD_DAYS + 1:
        return None
    slope = median((other - one) / (later - earlier).days for (earlier, one), (later, other) in combinations(held, 2))
    days = available / slope if slope > 0 else None
    return Forecast(slope, days if days is not None and days < FARTHEST_DAYS else None)


def _held(peaks: Mapping[date, float]) -> list[tuple[date, float]]:
    """Return for each day the most of the period that ends with it, from when there is a whole one."""
    days = sorted(peaks)
    return [
        (day, max(peaks[one] for one in days if 0 <= (day - one).days < PERIOD_DAYS))
        for day in days
        if (day - days[0]).days >= PERIOD_DAYS - 1
    ]
