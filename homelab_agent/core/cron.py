"""What a schedule may be: "every 10 minutes", "every 6 hours", or the five fields of cron (crontab(5)).

Nothing here knows when that is (`core/jobs/schedule.py` does), so that whoever reads a configuration can look at it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from homelab_agent.core.errors import AgentError, Exit

EVERY = re.compile(r"every(?: (?P<count>\d{1,4}))? (?P<unit>minute|hour|day)s?", re.IGNORECASE)

_PART = re.compile(r"(?P<first>\*|[a-z0-9]+)(?:-(?P<last>[a-z0-9]+))?(?:/(?P<step>[1-9]\d?))?")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH_NUMBERS = {name: number for number, name in enumerate(_MONTHS, 1)}
_LONGEST_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class ScheduleInvalid(AgentError, ValueError):
    """The schedule "{text}" is none."""

    repair = 'Write "every 10 minutes", "every 6 hours" or five cron fields such as "15 3 * * *".'
    exit_code = Exit.CONFIGURATION


def check(text: str) -> str:
    """Return a schedule's text as it is; raises `ScheduleInvalid`, also for one that never comes ("0 0 31 2 *")."""
    words = " ".join(text.split())
    try:
        every = EVERY.fullmatch(words)
        if every is None:
            _check_fields(words.lower().split())
        elif int(every["count"] or 1) == 0:
            raise ValueError("0 is no interval")
    except ValueError as error:
        raise ScheduleInvalid(text=text, cause=str(error)) from None
    return text


def weekdays(field: str) -> str:
    """Return cron's weekday field (0 and 7 are Sunday) as names; raises ValueError."""
    chosen: set[int] = set()
    for part in field.lower().split(","):
        match = _PART.fullmatch(part)
        if match is None or not 1 <= int(match["step"] or 1) <= 7:
            message = f"{part!r} is no weekday"
            raise ValueError(message)
        first = 0 if match["first"] == "*" else _weekday(match["first"])
        last = 6 if match["first"] == "*" or match["step"] else first
        if match["last"]:
            last = _weekday(match["last"]) or 7
        if last < first:
            message = f"{part!r} runs backwards"
            raise ValueError(message)
        chosen.update(number % 7 for number in range(first, last + 1, int(match["step"] or 1)))
    return ",".join(_WEEKDAYS[number] for number in sorted(chosen))


def months(field: str) -> frozenset[int]:
    """Return the numbers of cron's month field; raises ValueError."""
    return _numbers(field, "month", 1, 12, _MONTH_NUMBERS)


def _check_fields(fields: Sequence[str]) -> None:
    if len(fields) != 5:
        message = f"{len(fields)} fields; cron has 5: minute hour day month weekday"
        raise ValueError(message)
    minute, hour, day, month, weekday = fields
    _numbers(minute, "minute", 0, 59)
    _numbers(hour, "hour", 0, 23)
    days = _numbers(day, "day", 1, 31)
    weekdays(weekday)
    longest = max(_LONGEST_DAYS[number - 1] for number in months(month))
    is_either = not day.startswith("*") and not weekday.startswith("*")
    if not is_either and min(days) > longest:
        raise ValueError("there is no such day")


def _numbers(field: str, what: str, low: int, high: int, names: Mapping[str, int] | None = None) -> frozenset[int]:
    """Return what a field names; raises ValueError."""
    return frozenset(number for part in field.split(",") for number in _range(part, what, low, high, names or {}))


def _range(part: str, what: str, low: int, high: int, names: Mapping[str, int]) -> Iterator[int]:
    match = _PART.fullmatch(part)
    if match is None or (match["first"] == "*" and match["last"]):
        message = f"{part!r} is no {what}"
        raise ValueError(message)
    given = (match["first"], match["last"])
    first, last = (None if one in {None, "*"} else names.get(one, int(one) if one.isdecimal() else -1) for one in given)
    step = int(match["step"] or 1)
    end = high if first is None or (last is None and match["step"]) else first if last is None else last
    begin = low if first is None else first
    if not low <= begin <= end <= high or (match["step"] and step > end - begin):
        message = f"{part!r} is no {what}: it goes from {low} to {high}"
        raise ValueError(message)
    yield from range(begin, end + 1, step)


def _weekday(text: str) -> int:
    if text in _WEEKDAYS:
        return _WEEKDAYS.index(text)
    if re.fullmatch("[0-7]", text):
        return int(text)
    message = f"{text!r} is no weekday"
    raise ValueError(message)
