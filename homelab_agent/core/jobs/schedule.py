"""When a job is due: "every 10 minutes", "every 6 hours", or the five fields of cron ("15 3 * * *").

APScheduler's triggers do the arithmetic of the calendar. What cron users expect and it does otherwise is put
right here: Sunday is 0 and 7; where both the day of the month and that of the week are given, either will do
(crontab(5)). Its triggers are asked in plain local time, since with a zone they leave out the midnight after
a change to summer time; what the changes mean is decided here:

- a job with named hours runs once a day for each: in the first of two equal hours, and where the clock leaps
  over its slot, as much later as the clock leaps;
- a job with `*` in the hours goes on in its rhythm, through both equal hours;
- an interval is one of real time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol

from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from homelab_agent.core import cron
from homelab_agent.core.clock import MICROSECOND
from homelab_agent.core.cron import ScheduleInvalid

_ANCHOR = datetime(2000, 1, 3)  # noqa: DTZ001 - a Monday's midnight in whatever zone; intervals count from it
_LONGEST_LEAP = timedelta(hours=3)


class _Trigger(Protocol):
    def get_next_fire_time(self, previous_fire_time: None, now: datetime) -> datetime | None: ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """A parsed schedule; `text` is as it was written. Each slot is `later` by so much."""

    text: str
    _triggers: Sequence[_Trigger]
    _timezone: tzinfo
    _named_hours: bool
    later: timedelta = timedelta(0)

    def next(self, after: datetime) -> datetime:
        """Return the first slot later than `after` (aware), in UTC."""
        after = after.astimezone(UTC) - self.later
        find = self._next_named if self._named_hours else self._next_in_rhythm
        return min(find(trigger, after) for trigger in self._triggers) + self.later

    def period(self, at: datetime) -> timedelta:
        """Return the time between the two slots that follow `at`."""
        first = self.next(at)
        return self.next(first) - first

    def _next_named(self, trigger: _Trigger, after: datetime) -> datetime:
        """Return the next slot where each local time counts once."""
        leap = self._offset(after) - self._offset(after - _LONGEST_LEAP)
        local = after + self._offset(after)
        starts = [local, local - leap] if leap > timedelta(0) else [local]
        return min(self._first_later(trigger, start, after) for start in starts)

    def _first_later(self, trigger: _Trigger, local: datetime, after: datetime) -> datetime:
        while True:
            local = self._ask(trigger, local + MICROSECOND)
            slot = local.replace(tzinfo=self._timezone, fold=0).astimezone(UTC)
            if slot > after:
                return slot

    def _next_in_rhythm(self, trigger: _Trigger, after: datetime) -> datetime:
        """Return the next slot where the clock's face counts, each stretch between two changes on its own."""
        begin = after + MICROSECOND
        while True:
            offset = self._offset(begin)
            slot = self._ask(trigger, begin + offset) - offset
            if self._offset(slot) == offset:
                return slot
            begin = self._change(begin, slot)

    def _ask(self, trigger: _Trigger, local: datetime) -> datetime:
        """Return the trigger's first time not before `local`; both are local time that calls itself UTC."""
        slot = trigger.get_next_fire_time(None, local)
        if slot is None:
            raise ScheduleInvalid(text=self.text, cause="there is no such day")
        return slot

    def _offset(self, at: datetime) -> timedelta:
        return at.astimezone(self._timezone).utcoffset() or timedelta(0)

    def _change(self, before: datetime, after: datetime) -> datetime:
        """Return the moment between the two at which the zone's offset changes, to the second."""
        old = self._offset(before)
        while after - before > timedelta(seconds=1):
            middle = before + (after - before) // 2
            before, after = (middle, after) if self._offset(middle) == old else (before, middle)
        return after.replace(microsecond=0)


def local_timezone() -> tzinfo:
    """Return the host's time zone, with its changes of summer time; reads small files, once."""
    import tzlocal

    return tzlocal.get_localzone()


def parse(text: str, timezone: tzinfo) -> Schedule:
    """Return the schedule that `text` describes, with cron's fields in `timezone`.

    Intervals are counted from a Monday's midnight, so that "every 6 hours" is at 0, 6, 12 and 18 o'clock
    standard time. Raises `ScheduleInvalid`, also for one that never comes ("0 0 31 2 *").
    """
    words = " ".join(cron.check(text).split())
    every = cron.EVERY.fullmatch(words)
    if every is not None:
        # An interval knows no zone but at its beginning, which is a local midnight.
        return Schedule(text, [_interval(every, timezone)], UTC, _named_hours=False)
    fields = words.lower().split()
    return Schedule(text, _triggers(fields), timezone, _named_hours=not fields[1].startswith("*"))


def _interval(every: re.Match[str], timezone: tzinfo) -> _Trigger:
    length = timedelta(**{every["unit"].lower() + "s": int(every["count"] or 1)})
    start = _ANCHOR.replace(tzinfo=timezone).astimezone(UTC)
    trigger: _Trigger = IntervalTrigger(seconds=int(length.total_seconds()), start_date=start, timezone=UTC)
    return trigger


def _triggers(fields: Sequence[str]) -> Sequence[_Trigger]:
    minute, hour, day, month, weekday = fields
    either = not day.startswith("*") and not weekday.startswith("*")
    weekdays, months = cron.weekdays(weekday), ",".join(map(str, sorted(cron.months(month))))
    return [
        CronTrigger(minute=minute, hour=hour, day=of_month, month=months, day_of_week=of_week, timezone=UTC)
        for of_month, of_week in ([(day, "*"), ("*", weekdays)] if either else [(day, weekdays)])
    ]
