"""Schedules: what is written is what runs, also over the changes to and from summer time."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core import cron
from homelab_agent.core.cron import ScheduleInvalid
from homelab_agent.core.errors import Exit
from homelab_agent.core.jobs.schedule import Schedule, parse
from homelab_agent.core.uuid7 import uuid7

VIENNA = ZoneInfo("Europe/Vienna")
SPRING = datetime(2027, 3, 28, 1, tzinfo=UTC)
AUTUMN = datetime(2026, 10, 25, 1, tzinfo=UTC)
CHANGES = st.sampled_from([SPRING, AUTUMN])
MOMENTS = st.builds(lambda day, second: day + timedelta(seconds=second), CHANGES, st.integers(-(10**8), 10**8))
NEAR_A_CHANGE = st.builds(lambda day, second: day + timedelta(seconds=second), CHANGES, st.integers(-9000, 9000))


def slots(schedule: Schedule, after: datetime, count: int) -> list[datetime]:
    found = [schedule.next(after)]
    while len(found) < count:
        found.append(schedule.next(found[-1]))
    return found


def local(schedule: Schedule, after: datetime, count: int) -> list[str]:
    return [slot.astimezone(VIENNA).isoformat(timespec="minutes")[5:] for slot in slots(schedule, after, count)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("every 10 minutes", ["11-24T13:10+01:00", "11-24T13:20+01:00"]),
        ("Every  6 hours", ["11-24T18:00+01:00", "11-25T00:00+01:00"]),
        ("every hour", ["11-24T14:00+01:00", "11-24T15:00+01:00"]),
        ("every 7 days", ["11-30T00:00+01:00", "12-07T00:00+01:00"]),
        ("15 3 * * *", ["11-25T03:15+01:00", "11-26T03:15+01:00"]),
        ("0 4 * * 0", ["11-29T04:00+01:00", "12-06T04:00+01:00"]),
        ("0 4 * * 7", ["11-29T04:00+01:00", "12-06T04:00+01:00"]),
        ("0 4 * * sun", ["11-29T04:00+01:00", "12-06T04:00+01:00"]),
        ("0 4 * * 1-5", ["11-25T04:00+01:00", "11-26T04:00+01:00", "11-27T04:00+01:00", "11-30T04:00+01:00"]),
        ("0 4 * * 5-7", ["11-27T04:00+01:00", "11-28T04:00+01:00", "11-29T04:00+01:00", "12-04T04:00+01:00"]),
        ("0 4 * * */3", ["11-25T04:00+01:00", "11-28T04:00+01:00", "11-29T04:00+01:00"]),
        ("0 4 1 * 6", ["11-28T04:00+01:00", "12-01T04:00+01:00", "12-05T04:00+01:00"]),
        ("0 4 */2 * 6", ["12-05T04:00+01:00", "12-19T04:00+01:00"]),
        ("*/20 8-9 24 nov *", ["11-24T08:00+01:00", "11-24T08:20+01:00"]),
    ],
)
def test_a_schedule_means_what_cron_users_expect(text: str, expected: list[str]) -> None:
    after = datetime(2026, 11, 24, 12, 5, tzinfo=UTC)
    assert local(parse(text, VIENNA), after, len(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "daily", "every", "every 0 minutes", "every -1 hours", "every 1.5 hours", "every 10 fortnights",
        "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8",
        "* * * * 5-2", "* * * * */0", "* * * * mon-", "a b c d e", "0 0 31 2 *", "0 0 30 feb *", "@daily",
    ],
)  # fmt: skip
def test_what_is_no_schedule_is_refused_with_a_repair(text: str) -> None:
    with pytest.raises(ScheduleInvalid) as caught:
        parse(text, VIENNA)
    assert f'"{text}" is none' in str(caught.value)
    assert "every 10 minutes" in caught.value.repair
    assert caught.value.exit_code is Exit.CONFIGURATION
    assert isinstance(caught.value, ValueError)


_ENDS = st.integers(0, 62).map(str) | st.sampled_from(["*", "mon", "sun", "jan", "dec", "x", "05"])
_PARTS = st.builds("{}{}{}".format, _ENDS, st.just("") | _ENDS.map("-{}".format), st.just("") | _ENDS.map("/{}".format))
_FIELDS = st.just("*") | _PARTS | st.lists(_PARTS, min_size=1, max_size=3).map(",".join)


@given(st.text(max_size=30) | st.lists(_FIELDS, min_size=5, max_size=5).map(" ".join))
def test_any_text_is_refused_by_whoever_reads_the_configuration_or_runs(text: str) -> None:
    try:
        cron.check(text)
    except ScheduleInvalid:
        return
    assert parse(text, VIENNA).next(AUTUMN) > AUTUMN


@given(st.integers(0, 59), st.integers(0, 23), st.integers(1, 31), st.integers(1, 12), st.integers(0, 7))
def test_a_schedule_of_five_numbers_is_refused_only_where_there_is_no_such_day(
    minute: int, hour: int, day: int, month: int, weekday: int
) -> None:
    cron.check(f"{minute} {hour} {day} {month} {weekday}")
    if day <= 29 or (day == 30 and month != 2):
        cron.check(f"{minute} {hour} {day} {month} *")
    elif month == 2:
        with pytest.raises(ScheduleInvalid, match="no such day"):
            cron.check(f"{minute} {hour} {day} {month} *")


def test_a_daily_job_in_the_hour_that_comes_twice_runs_once() -> None:
    assert local(parse("30 2 * * *", VIENNA), AUTUMN - timedelta(hours=20), 3) == [
        "10-25T02:30+02:00",
        "10-26T02:30+01:00",
        "10-27T02:30+01:00",
    ]


def test_a_job_every_half_hour_goes_on_through_the_hour_that_comes_twice() -> None:
    found = slots(parse("*/30 * * * *", VIENNA), AUTUMN - timedelta(hours=2), 10)
    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(minutes=30)}


def test_a_daily_job_in_the_hour_that_is_left_out_runs_once_an_hour_later() -> None:
    assert local(parse("30 2 * * *", VIENNA), SPRING - timedelta(hours=22), 3) == [
        "03-28T03:30+02:00",
        "03-29T02:30+02:00",
        "03-30T02:30+02:00",
    ]


def test_an_interval_is_one_of_real_time_over_both_changes() -> None:
    for change in (SPRING, AUTUMN):
        found = slots(parse("every 6 hours", VIENNA), change - timedelta(hours=20), 10)
        assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(hours=6)}


@pytest.mark.parametrize("change", [SPRING, AUTUMN])
@given(st.integers(0, 59), st.integers(0, 23), st.integers(0, 3 * 24 * 60))
def test_a_daily_slot_comes_once_on_each_day_around_a_change(
    change: datetime, minute: int, hour: int, before: int
) -> None:
    after = change - timedelta(minutes=before)
    found = slots(parse(f"{minute} {hour} * * *", VIENNA), after, 6)
    days = [slot.astimezone(VIENNA).date() for slot in found]
    assert all(later - earlier == timedelta(days=1) for earlier, later in pairwise(days))
    assert days[0] - after.astimezone(VIENNA).date() <= timedelta(days=1)


@given(
    MOMENTS | NEAR_A_CHANGE,
    st.sampled_from(
        ["every 7 minutes", "every 5 hours", "*/7 * * * *", "15 */3 * * *", "15 1-4 * * *", "0,45 2,3 * * 0"]
    ),
)
def test_slots_are_the_same_wherever_one_asks_from(after: datetime, text: str) -> None:
    schedule = parse(text, VIENNA)
    found = slots(schedule, after, 12)
    assert found[0] > after
    assert all(earlier < later for earlier, later in pairwise(found))
    assert all(schedule.next(slot - timedelta(microseconds=1)) == slot for slot in found)


@given(MOMENTS, st.sampled_from(["minute", "hour", "day"]), st.integers(1, 400))
def test_an_interval_is_as_long_as_it_says(after: datetime, unit: str, count: int) -> None:
    length = timedelta(**{f"{unit}s": count})
    schedule = parse(f"every {count} {unit}s", VIENNA)
    assert schedule.period(after) == length
    assert after < schedule.next(after) <= after + length


def test_a_schedule_that_is_later_has_each_slot_later() -> None:
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
    schedule = replace(parse("0 0,12 * * *", UTC), later=timedelta(minutes=20))
    assert slots(schedule, noon, 2) == [noon + timedelta(minutes=20), noon + timedelta(hours=12, minutes=20)]
    assert slots(schedule, noon + timedelta(minutes=20), 1) == [noon + timedelta(hours=12, minutes=20)]
    assert schedule.period(noon) == timedelta(hours=12)


def test_ids_are_of_version_7_and_sort_by_age() -> None:
    ids = [uuid7() for _ in range(5000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    parsed = uuid.UUID(ids[0])
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert abs((parsed.int >> 80) / 1000 - datetime.now(UTC).timestamp()) < 5
