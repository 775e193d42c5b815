"""Months, as partitions need them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.database import partitions

times = st.datetimes(
    datetime(1970, 1, 2),
    datetime(2200, 1, 1),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=13))]),
)


@given(times)
def test_a_time_lies_in_its_month_of_utc(at: datetime) -> None:
    first = partitions.month(at)
    assert (first.day, first.utcoffset(), first.time().isoformat()) == (1, timedelta(0), "00:00:00")
    assert first <= at < partitions.months_ahead(at, 1)[1]


@given(times, st.integers(0, 30))
def test_months_ahead_follow_each_other(at: datetime, count: int) -> None:
    months = partitions.months_ahead(at, count)
    assert len(months) == count + 1
    for month, following in pairwise(months):
        assert partitions.month(month + timedelta(days=32)) == following
