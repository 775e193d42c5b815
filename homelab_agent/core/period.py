"""Lengths and points of time as a person types them for a command: `--for 2h`, `--since 1h`, `--until 18:30`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import Any

import click

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_OF_DAY = re.compile(r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?")
_LENGTH = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([smhd])")


def seconds(text: str) -> float:
    """Return the seconds of "90s", "45m", "2h", "1d"; raises ValueError."""
    match = _LENGTH.fullmatch(text)
    if match is None:
        message = f"{text!r} is not a time such as 90s, 45m, 2h or 1d"
        raise ValueError(message)
    return float(match[1]) * _UNITS[match[2]]


def instant(text: str) -> datetime:
    """Return a day or a time (RFC 3339) in UTC, which it is in where it names no zone; raises ValueError."""
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        message = "a date or a time as 2026-11-28T12:00:00Z"
        raise ValueError(message) from None


class Duration(click.ParamType[float]):
    """A length of time as a person writes it: "90s", "45m", "2h", "1d"; seconds in code."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        try:
            return seconds(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Moment(click.ParamType[datetime]):
    """A point of time: a length of time ago, a time of the last day ("18:30"), or a day or a time; UTC in code.

    Where no zone is named it is this host's, in which times are printed, too.
    """

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time."""
        if isinstance(value, datetime):
            return value
        try:
            return ago(str(value), datetime.now(UTC))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def ago(text: str, now: datetime) -> datetime:
    """Return the point of time that `text` names, `now` being now; raises ValueError."""
    if _LENGTH.fullmatch(text):
        try:
            return now - timedelta(seconds=seconds(text))
        except OverflowError:
            message = f"{text} ago is before all calendars"
            raise ValueError(message) from None
    try:
        if _OF_DAY.fullmatch(text):
            found = datetime.combine(now.astimezone(), time.fromisoformat(text.rjust(5, "0"))).astimezone(UTC)
            return found if found <= now else found - timedelta(days=1)
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        message = f"{text!r} is neither a length of time such as 45m, 2h or 1d nor a time as 18:30 or 2026-11-28T12:00"
        raise ValueError(message) from None
