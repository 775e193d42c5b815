"""Which buckets late samples are in: all of them, no other, and none that is settled or not rolled up yet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from homelab_agent.database.rollups import ranges
from homelab_agent.database.rollups.level import DAY, HOUR, LEVELS, MINUTE, Level
from homelab_agent.database.rollups.ranges import Range
from homelab_agent.database.settings import DatabaseSettings

BEGIN = datetime(2026, 11, 24, tzinfo=UTC)
moments = st.integers(0, 5 * 86_400).map(lambda seconds: BEGIN + timedelta(seconds=seconds))
marks = st.lists(
    st.tuples(moments, st.integers(0, 3599)).map(lambda mark: (mark[0], mark[0] + timedelta(seconds=mark[1]))),
    max_size=8,
)


def buckets(found: Sequence[Range], level: Level) -> set[datetime]:
    """Return the buckets that ranges are made of, which must be whole, apart, and in order."""
    assert all(end < begin for (_, end), (begin, _) in pairwise(found))
    made = set()
    for begin, end in found:
        assert begin == level.floor(begin) < end == level.ceil(end)
        made |= {begin + number * level.width for number in range((end - begin) // level.width)}
    return made


@given(marks)
def test_what_is_touched_is_each_bucket_that_a_time_is_in(marks: Sequence[Range]) -> None:
    times = {first + timedelta(seconds=n) for first, last in marks for n in range(0, (last - first).seconds, 50)}
    times |= {last for _, last in marks}
    found = ranges.touched(marks, MINUTE)
    assert buckets(found, MINUTE) == {MINUTE.floor(at) for at in times}
    for level in (HOUR, DAY):
        found = ranges.widened(found, level)
        assert buckets(found, level) == {level.floor(at) for at in times}


@given(marks, st.none() | moments.map(DAY.floor), st.none() | moments.map(DAY.floor))
def test_what_is_settled_or_not_done_yet_is_left_alone(
    marks: Sequence[Range], settled: datetime | None, until: datetime | None
) -> None:
    touched = ranges.touched(marks, MINUTE)
    found = buckets(ranges.before(ranges.since(touched, settled), until), MINUTE)
    wanted = {at for at in buckets(touched, MINUTE) if until is not None and at < until}
    assert found == {at for at in wanted if settled is None or at >= settled}


@given(moments, st.sampled_from(LEVELS))
def test_a_bucket_begins_where_the_clock_shows_it_to(at: datetime, level: Level) -> None:
    begin = level.floor(at)
    assert begin <= at < begin + level.width
    assert level.ceil(at) in {begin, begin + level.width}
    assert begin.isoformat().endswith({"1m": ":00+00:00", "1h": ":00:00+00:00", "1d": "T00:00:00+00:00"}[level.name])


@pytest.mark.parametrize(
    "section",
    [{"keep_samples": 90}, {"keep_minutes": 20}, {"keep_hours": 59}, {"columnstore_after": 29}],
)
def test_what_is_coarser_is_not_kept_shorter(section: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="coarser is kept longer"):
        DatabaseSettings(**section)
