"""A sample's time: unique per host, whatever is done to the clock, and right even before the clock is.

Times are whole seconds. After the clock was set back, seconds come again that were used; each such *lap* has
a millisecond of its own, so the first lap's samples are at .001, the next lap's at .002. The highest second
used and the number of laps are kept in state.db; that is written ahead for ten minutes, so rarely.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from homelab_agent.core import clock
from homelab_agent.core.clock import Instant
from homelab_agent.core.state import State

AHEAD_SECONDS = 600
_MOST_LAPS = 999
_SAME_CLOCK_SECONDS = 0.05
"""Slewing moves wall and boot time alike; only setting the clock changes their difference by more."""
_PATIENCE_SECONDS = 300.0
"""How long after boot samples wait for the clock to be set."""


@dataclass(frozen=True, slots=True)
class HighWater:
    """What is remembered of the times used.

    `used` is the highest second used when it was written, `high` the one beyond which none is without a new mark;
    `laps` is how often the clock came to used seconds. `boot` and `offset` (wall minus boot time in seconds) tell a
    later start whether the clock was set back meanwhile.
    """

    used: int = 0
    high: int = 0
    laps: int = 0
    boot: str = ""
    offset: float = 0.0


class Instants:
    """Gives out sample times, each once."""

    def __init__(self, high_water: HighWater, now: Instant, boot: str) -> None:
        offset = _offset(now)
        high = high_water.high
        if high_water.boot == boot and offset >= high_water.offset - _SAME_CLOCK_SECONDS:
            # The clock only went on: what lies in the future was never used.
            high = min(high, max(high_water.used, int(now.wall.timestamp())))
        self._high = high
        self._laps = high_water.laps
        self._in_lap = False
        self._last = 0
        self._boot = boot
        self._written = high_water

    def free(self, wanted: datetime) -> tuple[datetime, int]:
        """Return the time for a sample due in `wanted`'s second, and its milliseconds if it was moved."""
        second = int(wanted.timestamp())
        if second > self._high:
            self._high, self._in_lap = second, False
            return datetime.fromtimestamp(second, UTC), 0
        if not self._in_lap or second <= self._last:
            self._laps = self._laps % _MOST_LAPS + 1
            self._in_lap = True
        self._last = second
        return datetime.fromtimestamp(second, UTC) + timedelta(milliseconds=self._laps), self._laps

    def due_high_water(self, now: Instant) -> HighWater | None:
        """Return what should be written to state.db now, None when what is there still holds."""
        offset = _offset(now)
        holds = (
            self._written.laps == self._laps
            and self._written.boot == self._boot
            and self._high < self._written.high - AHEAD_SECONDS // 10
            and abs(offset - self._written.offset) < _SAME_CLOCK_SECONDS
        )
        return None if holds else HighWater(self._high, self._high + AHEAD_SECONDS, self._laps, self._boot, offset)

    def last_high_water(self, now: Instant) -> HighWater:
        """Return what to write at an orderly end: exactly what was used."""
        return HighWater(self._high, self._high, self._laps, self._boot, _offset(now))

    async def keep(self, high_water: HighWater, state: State) -> None:
        """Write a high-water mark to state.db; raises `StateUnavailable`."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO metrics_high_water (one, used, high, laps, boot, clock_offset)"
                " VALUES (1, ?, ?, ?, ?, ?)",
                (high_water.used, high_water.high, high_water.laps, high_water.boot, high_water.offset),
            )

        await state.write(write)
        self._written = high_water


async def resume(state: State, now: Instant) -> Instants:
    """Go on where the high-water mark in state.db says; raises `StateUnavailable`."""

    def read(connection: sqlite3.Connection) -> tuple[HighWater, str]:
        row = connection.execute("SELECT used, high, laps, boot, clock_offset FROM metrics_high_water").fetchone()
        return (HighWater(*row) if row else HighWater()), clock.boot_id()

    high_water, boot = await state.read(read)
    return Instants(high_water, now, boot)


def from_boot(sampled: Instant, now: Instant) -> datetime:
    """Return when a sample was taken by a clock that was set later: counted back in boot time."""
    return now.wall - timedelta(seconds=now.boot - sampled.boot)


def may_stamp(now: Instant, *, synchronised: bool) -> bool:
    """Return whether sample times can be trusted, or are not worth waiting for any longer."""
    return synchronised or now.boot >= _PATIENCE_SECONDS


def _offset(now: Instant) -> float:
    return round(now.wall.timestamp() - now.boot, 3)
