"""What is kept of a set: enough of every age, never less than the floor, and always what is known to be good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as some

from homelab_agent.backup.point import Archive
from homelab_agent.backup.retention import Kept, Plan, TooFewLeft, check_left, plan
from homelab_agent.backup.settings import Keep

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ZONE = ZoneInfo("Europe/Berlin")


def archive(days: float, **known: bool | int) -> Kept:
    """One that is so many days old."""
    return Kept(f"{days:g}", NOW - timedelta(days=days), bytes=int(known.pop("bytes", 100)), files=10, **known)  # type: ignore[arg-type]


def decided(archives: list[Kept], *, accepted: bool = False, **keep: float) -> Plan:
    return plan(archives, Keep.model_validate(keep), now=NOW, zone=ZONE, accepted=accepted)


def test_a_year_of_nights_leaves_the_newest_of_each_period() -> None:
    found = decided([archive(day) for day in range(400)], daily=7, weekly=4, monthly=6, yearly=2, least=3)
    assert [name for name, why in found.keep.items() if "daily" in why] == [f"{day}" for day in range(7)]
    assert [name for name, why in found.keep.items() if "monthly" in why] == ["0", "28", "59", "89", "120", "151"]
    assert len(found.keep) + len(found.delete) == 400
    assert found.delete[0] == "399"


def test_a_day_is_one_of_the_local_zone() -> None:
    before, after = (datetime(2026, 11, 27, hour, 30, tzinfo=UTC) for hour in (22, 23))
    found = plan(
        [Kept("before", before), Kept("after", after)],
        Keep(daily=2, weekly=0, monthly=0, yearly=0, least=1),
        now=NOW,
        zone=ZONE,
    )
    assert not found.delete


def test_what_is_known_to_be_good_outlives_what_is_newer() -> None:
    old = [archive(50, verified=True), archive(60, proven=True), archive(70)]
    found = decided(
        [archive(0), archive(0.1, dirty=True, verified=True), *old], daily=1, weekly=0, monthly=0, yearly=0, least=1
    )
    assert list(found.delete) == ["70", "0.1"]


def test_nothing_goes_while_the_newest_is_unlike_those_before() -> None:
    archives = [archive(0, bytes=10), *(archive(day) for day in range(1, 30))]
    found = decided(archives)
    assert not found.delete
    assert found.held == "the newest has 10 bytes, those before it about 100"
    assert decided(archives, accepted=True).delete


def test_the_future_is_kept_and_told() -> None:
    found = decided([archive(day) for day in (-400, 0, 1)], daily=1, weekly=0, monthly=0, yearly=0, least=1)
    assert list(found.delete) == ["1"]
    assert len(found.told) == 1


kept = some.builds(
    Kept,
    id=some.uuids().map(str),
    at=some.datetimes(datetime(2024, 1, 1), datetime(2027, 6, 1), timezones=some.just(UTC)),
    dirty=some.booleans(),
    bytes=some.integers(0, 1000),
    files=some.integers(0, 1000),
    verified=some.booleans(),
    proven=some.booleans(),
)
keeps = some.builds(
    Keep,
    daily=some.integers(0, 9),
    weekly=some.integers(0, 9),
    monthly=some.integers(0, 9),
    yearly=some.integers(0, 3),
    least=some.integers(1, 5),
)


@given(some.lists(kept, unique_by=lambda one: one.id), keeps, some.booleans())
def test_for_all_archives(archives: list[Kept], keep: Keep, accepted: bool) -> None:  # noqa: FBT001
    found = plan(archives, keep, now=NOW, zone=ZONE, accepted=accepted)
    assert found.keep.keys() | set(found.delete) == {one.id for one in archives}
    assert not found.keep.keys() & set(found.delete)
    good = sorted((one for one in archives if not one.dirty and one.at <= NOW), key=lambda one: one.at)
    floor = [one for one in good if one.id in found.keep]
    assert len(floor) >= min(keep.least, len(good))
    for known in ([one for one in good if one.verified], [one for one in good if one.proven]):
        assert not known or any(one.at == known[-1].at and one.id in found.keep for one in known)
    rest = [one for one in archives if one.id in found.keep]
    again = plan(rest, keep, now=NOW, zone=ZONE, accepted=accepted)
    assert not again.delete, "what was kept is kept again"
    more = keep.model_copy(update={"daily": keep.daily + 1, "least": keep.least + 1})
    assert found.keep.keys() <= plan(archives, more, now=NOW, zone=ZONE, accepted=accepted).keep.keys()


def copy(days: int, *, dirty: bool = False, set_name: str = "things") -> Archive:
    verdict = "dirty" if dirty else "cold"
    at = NOW - timedelta(days=days)
    return Archive(f"{days}", "archive", set_name, at, verdict, f"{days:064}", 1, 1, 1)  # type: ignore[arg-type]


@given(
    days=some.lists(some.tuples(some.integers(0, 500), some.booleans()), unique_by=lambda one: one[0], max_size=30),
    least=some.integers(1, 5),
    daily=some.integers(0, 9),
)
def test_the_root_half_deletes_all_that_need_not_be_kept(days: list[tuple[int, bool]], least: int, daily: int) -> None:
    left = [copy(day, dirty=dirty) for day, dirty in days]
    known = [archive(day, dirty=dirty) for day, dirty in days]
    for name in decided(known, accepted=True, least=least, daily=daily, weekly=0, monthly=0, yearly=0).delete:
        check_left(left, name, least)
        left = [one for one in left if one.id != name]


@given(
    days=some.lists(some.tuples(some.integers(0, 500), some.booleans()), unique_by=lambda one: one[0], max_size=30),
    least=some.integers(1, 5),
    asked=some.randoms(),
)
def test_whoever_asks_the_last_copies_of_a_set_stay(days: list[tuple[int, bool]], least: int, asked: Random) -> None:
    left = [copy(day, dirty=dirty) for day, dirty in days]
    good = sum(not dirty for _, dirty in days)
    other = [copy(1000 + number, set_name="other") for number in range(9)]
    for one in asked.sample(left, len(left)):
        try:
            check_left([*left, *other], one.id, least)
        except TooFewLeft:
            assert one.verdict != "dirty"
        else:
            left.remove(one)
    assert sum(one.verdict != "dirty" for one in left) == min(good, least)


def test_what_is_not_there_is_for_the_engine_to_say() -> None:
    check_left([copy(1)], "another", 3)
    with pytest.raises(TooFewLeft, match="of things at least 3 stay"):
        check_left([copy(1)], "1", 3)
