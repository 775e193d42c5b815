"""What a schedule asks for: through nights off, suspends and clocks that are set, no slot comes twice."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core.clock import Instant
from homelab_agent.core.jobs.schedule import parse
from homelab_agent.core.jobs.timetable import GRACE, Entry, Skip, Start, Wait, catch_up_delay, decide, share
from tests.clock import MovableClock

VIENNA = ZoneInfo("Europe/Vienna")
NIGHTLY = parse("15 3 * * *", VIENNA)
NOON = datetime(2026, 11, 24, 11, tzinfo=UTC)
SLOT = datetime(2026, 11, 25, 2, 15, tzinfo=UTC)


def nightly(*, catch_up: bool = True, handled: datetime = NOON) -> Entry:
    return Entry("backup.nightly", NIGHTLY, catch_up=catch_up, handled=handled)


def at(wall: datetime, boot: float = 0.0) -> Instant:
    return Instant(wall, boot, boot)


def test_before_its_slot_a_job_waits_for_it() -> None:
    assert decide(nightly(), at(NOON), host="attic")[1] == Wait(SLOT)


@pytest.mark.parametrize("late", [timedelta(0), timedelta(seconds=1), GRACE - timedelta(seconds=1)])
def test_a_slot_seen_in_time_is_started_once(late: timedelta) -> None:
    entry, action = decide(nightly(), at(SLOT + late), host="attic")
    assert action == Start("schedule", SLOT)
    assert decide(entry, at(SLOT + late), host="attic")[1] == Wait(SLOT + timedelta(days=1))


def test_a_missed_slot_is_skipped_by_a_job_that_does_not_catch_up() -> None:
    entry, action = decide(nightly(catch_up=False), at(SLOT + timedelta(hours=5)), host="attic")
    assert action == Skip(SLOT)
    assert decide(entry, at(SLOT + timedelta(hours=5)), host="attic")[1] == Wait(SLOT + timedelta(days=1))


def test_a_week_off_is_caught_up_once_after_the_hosts_own_delay() -> None:
    back = SLOT + timedelta(days=7, hours=5)
    delay = catch_up_delay("attic", "backup.nightly", timedelta(days=1))
    entry, action = decide(nightly(), at(back), host="attic")
    assert action == Wait(back + delay)
    entry, action = decide(entry, at(back + delay, boot=delay.total_seconds()), host="attic")
    assert action == Start("catch-up", SLOT)
    assert isinstance(decide(entry, at(back + delay, boot=600.0), host="attic")[1], Wait)


def test_a_slot_that_comes_before_the_delay_is_over_stands_for_the_missed_one() -> None:
    hourly = Entry("reading.sync", parse("every hour", VIENNA), catch_up=True, handled=NOON - timedelta(hours=9))
    entry, action = decide(hourly, at(NOON - timedelta(seconds=1)), host="attic")
    assert action == Wait(NOON)
    entry, action = decide(entry, at(NOON, boot=1.0), host="attic")
    assert action == Start("schedule", NOON)
    assert entry.catch_up_at is None


def test_a_clock_set_back_over_the_slot_does_not_repeat_it() -> None:
    entry, _ = decide(nightly(), at(SLOT), host="attic")
    assert decide(entry, at(SLOT - timedelta(hours=1)), host="attic")[1] == Wait(SLOT + timedelta(days=1))


def test_a_clock_that_was_ten_years_ahead_does_not_silence_the_job() -> None:
    entry = nightly(handled=NOON + timedelta(days=3650))
    assert decide(entry, at(NOON), host="attic")[1] == Wait(SLOT)


@given(st.text(max_size=20), st.text(max_size=20), st.timedeltas(timedelta(minutes=1), timedelta(days=400)))
def test_the_delay_is_stable_and_within_its_bounds(host: str, job: str, period: timedelta) -> None:
    delay = catch_up_delay(host, job, period)
    assert delay == catch_up_delay(host, job, period)
    assert timedelta(0) <= delay <= timedelta(minutes=5)
    assert delay <= period / 10


def test_hosts_are_spread_over_the_delay() -> None:
    delays = sorted(catch_up_delay(f"host{number}", "backup", timedelta(days=1)) for number in range(100))
    assert delays[0] < timedelta(seconds=30)
    assert delays[-1] > timedelta(seconds=270)
    assert max(later - earlier for earlier, later in pairwise(delays)) < timedelta(seconds=60)


@dataclass(frozen=True)
class Move:
    """What happens to the host: time passes while it runs, sleeps or is off, or its clock is set."""

    how: str
    seconds: int


MOVES = st.lists(
    st.builds(Move, st.sampled_from(["runs", "sleeps", "off"]), st.integers(0, 200_000))
    | st.builds(Move, st.just("step"), st.integers(-3000, 3000)),
    max_size=12,
)


def live_through(moves: list[Move], text: str, *, catch_up: bool) -> tuple[list[Start], Entry, MovableClock]:
    """Drive one entry as the scheduler does, without the looks at which nothing is due."""
    clock = MovableClock(datetime(2026, 10, 24, 12, tzinfo=UTC))
    entry = Entry("job", parse(text, VIENNA), catch_up=catch_up, handled=clock.read().wall)
    started: list[Start] = []

    async def run_for(seconds: float) -> None:
        nonlocal entry
        while seconds >= 0:
            entry, action = decide(entry, clock.read(), host="attic")
            match action:
                case Start():
                    started.append(action)
                case Wait(until):
                    pause = min(seconds + 1e-3, (until - clock.read().wall).total_seconds())
                    await clock.advance(pause)
                    seconds -= pause

    async def live() -> None:
        nonlocal entry
        for move in moves:
            match move.how:
                case "runs":
                    await run_for(move.seconds)
                case "sleeps":
                    clock.suspend(move.seconds)
                case "off":
                    clock.suspend(move.seconds)
                    entry = replace(entry, catch_up_at=None)
                case _:
                    clock.step(move.seconds)

    asyncio.run(live())
    return started, entry, clock


@given(MOVES, st.sampled_from(["15 3 * * *", "30 2 * * *", "every 6 hours", "0 */4 * * *"]), st.booleans())
def test_whatever_happens_to_the_host_no_slot_is_started_twice(
    moves: list[Move],
    text: str,
    catch_up: bool,  # noqa: FBT001 - hypothesis hands it over
) -> None:
    started, _, _ = live_through(moves, text, catch_up=catch_up)
    slots = [start.slot for start in started]
    assert slots == sorted(set(slots))


WALLS = st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))


@given(
    WALLS,
    st.floats(0, 1e8),
    st.timedeltas(-timedelta(days=40), timedelta(days=40)),
    st.none() | st.floats(-1e-5, 1e-5) | st.floats(-1e4, 1e4),
    st.sampled_from(["15 3 * * *", "30 2 * * *", "every minute", "every 6 hours", "*/5 * * * *", "0 0 1 * *"]),
    st.booleans(),
)
def test_a_wait_ends_after_now_however_small_the_rest_of_a_delay(
    wall: datetime,
    boot: float,
    handled: timedelta,
    rest: float | None,
    text: str,
    catch_up: bool,  # noqa: FBT001 - hypothesis hands it over
) -> None:
    catch_up_at = None if rest is None else boot + rest
    entry = Entry("job", parse(text, VIENNA), catch_up=catch_up, handled=wall - handled, catch_up_at=catch_up_at)
    _, action = decide(entry, at(wall, boot), host="attic")
    assert not isinstance(action, Wait) or action.until > wall


@given(MOVES, st.sampled_from(["15 3 * * *", "every 6 hours"]))
def test_after_any_past_a_job_that_catches_up_has_missed_nothing_an_hour_later(moves: list[Move], text: str) -> None:
    moves = [move for move in moves if move.how != "step"]
    started, entry, clock = live_through([*moves, Move("runs", 3600)], text, catch_up=True)
    now = clock.read().wall
    assert entry.schedule.next(entry.handled) >= now - timedelta(seconds=1)
    begin = datetime(2026, 10, 24, 12, tzinfo=UTC)
    assert bool(started) == (entry.schedule.next(begin) < now - timedelta(seconds=1))


def test_each_host_has_its_own_share_of_a_spread_and_keeps_it() -> None:
    shares = sorted(share(f"host{number}", "reading.sync") for number in range(100))
    assert len(set(shares)) == 100
    assert 0 <= shares[0] < 0.1
    assert 0.9 < shares[-1] < 1
    assert share("attic", "reading.sync") == share("attic", "reading.sync") != share("attic", "backup.nightly")
