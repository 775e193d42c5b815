"""When to sample: on wall-clock boundaries, whatever happens to the clock.

The next boundary is always computed from the present, so that a missed one is skipped (and counted), and
neither a step of the clock nor a suspend is followed by a burst or by silence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from homelab_agent.core import clock
from homelab_agent.core.clock import Clock, Drift, Instant
from homelab_agent.core.nudge import Nudge

DISTURBED_SECONDS = 0.5
"""A clock that moved by more than this between two looks was set, or the host slept."""
_ON_TIME_SECONDS = 1.0
_NOISE_SECONDS = 0.05
"""Slewing and the reading of three clocks one after the other amount to less than this in an interval."""


@dataclass(frozen=True, slots=True)
class Tick:
    """One boundary: when it was due, when it was noticed, and how many before it were missed.

    `drift` is what happened to the clocks since the tick before.
    """

    due: datetime
    at: Instant
    skipped: int
    drift: Drift

    @property
    def late(self) -> float:
        """Return by how many seconds it was noticed too late."""
        return (self.at.wall - self.due).total_seconds()


class Ticker:
    """Waits for boundaries: the multiples of `interval` seconds since the epoch."""

    def __init__(self, source: Clock, interval: int) -> None:
        self._clock = source
        self._nudge = Nudge(source)
        self.interval = interval
        self._pace = interval
        self._last = source.read()
        self._due: datetime | None = None

    def adopt(self, interval: int) -> None:
        """Take a new interval, also for the wait that has begun."""
        self.interval = interval
        self._nudge.give()

    async def next(self) -> Tick:
        """Return at the next boundary."""
        before = self._clock.read()
        while True:
            interval = self.interval
            due = _boundary(before, interval) + timedelta(seconds=interval)
            left = (due - before.wall).total_seconds()
            await self._nudge.sleep(min(left, clock.LONGEST_SLEEP_SECONDS))
            now = self._clock.read()
            if self._is_due(due, before, now, interval):
                return self._tick(now, interval)
            before = now

    def _is_due(self, due: datetime, before: Instant, now: Instant, interval: int) -> bool:
        """Return whether a boundary was reached: by the passing of time, or by a step that landed on one."""
        moved = clock.drift(before, now)
        if abs(moved.step) < DISTURBED_SECONDS and moved.asleep < DISTURBED_SECONDS:
            return now.wall >= due
        reached = _boundary(now, interval)
        return reached != self._due and (now.wall - reached).total_seconds() < _ON_TIME_SECONDS

    def _tick(self, now: Instant, interval: int) -> Tick:
        moved = clock.drift(self._last, now)
        drift = Drift(step=_unless_noise(moved.step), asleep=max(_unless_noise(moved.asleep), 0.0))
        awake = (now.monotonic - self._last.monotonic) / max(interval, self._pace)
        # Between a set clock and the next boundary lies up to an interval more; that is nobody's miss.
        passed = math.floor(awake - 0.1) if drift.step or drift.asleep else round(awake)
        skipped = 0 if self._due is None else max(passed - 1, 0)
        self._due, self._last, self._pace = _boundary(now, interval), now, interval
        return Tick(self._due, now, skipped, drift)


def _boundary(instant: Instant, interval: int) -> datetime:
    """Return the boundary at or before an instant."""
    return datetime.fromtimestamp(math.floor(instant.wall.timestamp() / interval) * interval, UTC)


def _unless_noise(seconds: float) -> float:
    return seconds if abs(seconds) >= _NOISE_SECONDS else 0.0
