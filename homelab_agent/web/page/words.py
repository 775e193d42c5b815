"""Values, times and states in the words that a person reads on the page.

Numbers and their units are joined by a no-break space. Times are in the zone that the caller names; None
is the host's own, the clock on its wall.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from homelab_agent.core.jobs.run import Progress

NO_BREAK = "\N{NO-BREAK SPACE}"
_BYTES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")

STATES = {
    "ok": "Working",
    "degraded": "Degraded",
    "failed": "Failed",
    "disabled": "Off",
    "not_available": "Not available",
}
"""`health.State` in plain words."""

RUN_STATES = {
    "waiting": "Waiting",
    "running": "Running",
    "ok": "Done",
    "failed": "Failed",
    "cancelled": "Cancelled",
    "interrupted": "Interrupted",
    "timed_out": "Timed out",
}
"""The states of a run in plain words."""

TRIGGERS = {
    "schedule": "on schedule",
    "webhook": "by webhook",
    "command": "by command",
    "catch-up": "caught up",
}
"""What started a run, in plain words."""


def amount(value: float, unit: str) -> str:
    """Return `value` with its `unit`, one of `capability.Chart`'s; raises ValueError for another."""
    match unit:
        case "percent":
            return f"{_short(value)}{NO_BREAK}%"
        case "celsius":
            return f"{_short(value)}{NO_BREAK}°C"
        case "bytes":
            return size(value)
        case "bytes_per_second":
            return f"{size(value)}/s"
    message = f"no words for the unit {unit!r}"
    raise ValueError(message)


def size(value: float) -> str:
    """Return a number of bytes in the binary unit that keeps it below 1000."""
    rank = 0
    while abs(value) >= 999.5 and rank < len(_BYTES) - 1:
        value /= 1024
        rank += 1
    return f"{value:.0f}{NO_BREAK}B" if rank == 0 else f"{_short(value)}{NO_BREAK}{_BYTES[rank]}"


def duration(seconds: float) -> str:
    """Return a length of time in its two largest units at most; a negative one is 0 s."""
    if seconds < 0.95:
        return f"{max(seconds, 0):.1f}{NO_BREAK}s" if seconds >= 0.05 else f"0{NO_BREAK}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{NO_BREAK}s"
    if whole < 600 and whole % 60:
        return f"{whole // 60}{NO_BREAK}min {whole % 60}{NO_BREAK}s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes}{NO_BREAK}min"
    hours, rest = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}{NO_BREAK}h {rest}{NO_BREAK}min" if rest else f"{hours}{NO_BREAK}h"
    days, hours = divmod(round(minutes / 60), 24)
    return f"{days}{NO_BREAK}d {hours}{NO_BREAK}h" if hours else f"{days}{NO_BREAK}d"


def moment(time: datetime, now: datetime, zone: tzinfo | None = None) -> str:
    """Return the local time of day, with as much of the date as is needed beside `now`."""
    there, here = time.astimezone(zone), now.astimezone(zone)
    clock = f"{there:%H:%M}"
    days = there.date() - here.date()
    if not days:
        return clock
    if abs(days) == timedelta(days=1):
        return f"{'tomorrow' if days > timedelta() else 'yesterday'} {clock}"
    date = f"{there.day}{NO_BREAK}{there:%b}"
    return f"{date} {clock}" if there.year == here.year else f"{date} {there.year} {clock}"


def how_far(progress: Progress) -> str:
    """Return how far a run is, with its note."""
    show = size if progress.unit == "bytes" else _count
    unit = "" if progress.unit == "bytes" else f" {progress.unit}"
    part = show(progress.done) + (f" of {show(progress.total)}" if progress.total is not None else "") + unit
    return f"{part}, {progress.note}" if progress.note else part


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text: words, or something to type."""

    text: str
    is_code: bool


def pieces(text: str) -> list[Piece]:
    """Cut a text where it `quotes` something to type."""
    return [
        Piece(part, is_code=bool(position % 2)) for position, part in enumerate(re.split(r"`([^`]+)`", text)) if part
    ]


def repair(text: str) -> list[Piece]:
    """Cut a repair into pieces; without quotes and not begun like a sentence it is a command or a key."""
    if "`" not in text and not re.match(r"[A-Z][a-z]*\s", text):
        return [Piece(text, is_code=True)] if text else []
    return pieces(text)


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _short(value: float) -> str:
    """Return two significant digits below 10, whole numbers above; a whole number never with a fraction."""
    rounded = round(value, 1) + 0.0  # never "-0"
    return f"{rounded:g}" if abs(rounded) < 10 else f"{value:.0f}"
