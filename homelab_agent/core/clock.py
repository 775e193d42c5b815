"""Wall, monotonic and boot time, and what their difference tells: steps and suspends.

CLOCK_MONOTONIC stands still while the host is suspended, CLOCK_BOOTTIME does not (clock_gettime(2)). So the growth
of boot minus monotonic time is time asleep, and a change of wall minus boot time is a step of the clock.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

LONGEST_SLEEP_SECONDS = 30.0
"""asyncio's timers are monotonic; a sleep until a wall-clock time is cut in pieces so that a step is seen."""

_SHARED_SECONDS = 10
"""Who waits for this long or longer wakes with the others, at the wall clock's multiples: waking is what costs."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment on the three clocks; `monotonic` and `boot` in seconds."""

    wall: datetime
    monotonic: float
    boot: float


@dataclass(frozen=True, slots=True)
class Drift:
    """What happened to the clocks between two instants, in seconds."""

    step: float
    asleep: float


class Clock(Protocol):
    """Where the agent reads the time and waits; tests move their own."""

    def read(self) -> Instant:
        """Return the present moment; `wall` is aware and in UTC."""

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` of monotonic time."""


class SystemClock:
    """The host's own clocks."""

    def read(self) -> Instant:
        """Return the present moment."""
        return Instant(datetime.now(UTC), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME))

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` of monotonic time."""
        await asyncio.sleep(seconds)


def microseconds(at: datetime) -> int:
    """Return whole microseconds since 1970; raises TypeError for a time without a zone."""
    return (at - EPOCH) // MICROSECOND


def moment(count: int) -> datetime:
    """Return the time, in UTC, that is `count` microseconds after 1970."""
    return EPOCH + count * MICROSECOND


def boot_id(path: Path = Path("/proc/sys/kernel/random/boot_id")) -> str:
    """Return the kernel's name for this boot, "" where it gives none."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def drift(before: Instant, after: Instant) -> Drift:
    """Return the step of the wall clock and the time asleep between two instants."""
    boot = after.boot - before.boot
    return Drift(
        step=(after.wall - before.wall).total_seconds() - boot,
        asleep=boot - (after.monotonic - before.monotonic),
    )


def about(now: Instant, seconds: float) -> float:
    """Return a wait of about `seconds`, at most 5 s more or less, that ends when others' end too.

    A host at rest is woken once for all that is to be done, and not once for each: after a sleep caches are cold,
    and the first 0.3 ms go by before anything is done.
    """
    grain = _SHARED_SECONDS if seconds >= _SHARED_SECONDS else 1
    if seconds < grain:
        return seconds
    present = now.wall.timestamp()
    return round((present + seconds) / grain) * grain - present


async def sleep_until(clock: Clock, when: datetime) -> None:
    """Return when the wall clock reads `when` or later, also when it is stepped or the host sleeps meanwhile."""
    while (left := (when - clock.read().wall).total_seconds()) > 0:
        await clock.sleep(min(left, LONGEST_SLEEP_SECONDS))
