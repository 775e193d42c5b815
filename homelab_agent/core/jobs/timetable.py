"""What a job's schedule asks for now: start, catch up, skip or wait. Decisions only; `jobs` acts on them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from homelab_agent.core.clock import Instant
from homelab_agent.core.jobs.schedule import Schedule

GRACE = timedelta(seconds=60)
"""A slot seen later than this counts as missed: the host was off or asleep, or its clock leapt."""

LONGEST_CATCH_UP_DELAY = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Start:
    """Run the job for `slot`."""

    trigger: Literal["schedule", "catch-up"]
    slot: datetime


@dataclass(frozen=True, slots=True)
class Skip:
    """Let the missed `slot` and those after it go."""

    slot: datetime


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is to be done before `until` by the wall clock."""

    until: datetime


Action: TypeAlias = Start | Skip | Wait


@dataclass(frozen=True, slots=True)
class Entry:
    """One job in the timetable.

    Slots up to and including `handled` are dealt with. `catch_up_at`, on the boot-time clock, is set while a
    missed slot waits for its delay.
    """

    job: str
    schedule: Schedule
    catch_up: bool
    handled: datetime
    catch_up_at: float | None = None


def decide(entry: Entry, now: Instant, *, host: str) -> tuple[Entry, Action]:
    """Return what is to be done, and the entry as it stands once that is done.

    No slot is started twice, also when the clock is set back by less than a period. Set back further, what
    was handled is no longer believed, or the job would be silent until the wrong time comes true.
    """
    handled = entry.handled
    if handled > now.wall and handled - now.wall > entry.schedule.period(now.wall):
        handled = now.wall
    first = entry.schedule.next(handled)
    if first > now.wall:
        return replace(entry, handled=handled, catch_up_at=None), Wait(first)
    dealt_with = replace(entry, handled=now.wall, catch_up_at=None)
    recent = entry.schedule.next(max(handled, now.wall - GRACE))
    if recent <= now.wall:
        return dealt_with, Start("schedule", recent)
    if not entry.catch_up:
        return dealt_with, Skip(first)
    at = entry.catch_up_at
    if at is None:
        at = now.boot + catch_up_delay(host, entry.job, entry.schedule.period(now.wall)).total_seconds()
    left = timedelta(seconds=at - now.boot)
    if left <= timedelta(0):
        return dealt_with, Start("catch-up", first)
    return replace(entry, catch_up_at=at), Wait(min(now.wall + left, recent))


def catch_up_delay(host: str, job: str, period: timedelta) -> timedelta:
    """Return how long a missed slot waits: the same for a host and job each time, spread over the fleet.

    At most 5 minutes and less than a tenth of the period.
    """
    return min(LONGEST_CATCH_UP_DELAY, period / 10) * share(host, job)


def share(host: str, job: str) -> float:
    """Return a number from 0 to 1 that is always the same for a host and a job, and spread evenly over the fleet."""
    digest = hashlib.blake2b(f"{host}\0{job}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
