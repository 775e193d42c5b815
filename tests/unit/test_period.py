"""What a person types for a length or a point of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core import period
from homelab_agent.core.http import BadRequest
from homelab_agent.reading.order import Order

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@given(st.integers(0, 9999), st.sampled_from(sorted(UNITS)))
def test_a_length_of_time_is_so_long_ago(count: int, unit: str) -> None:
    assert NOW - period.ago(f"{count}{unit}", NOW) == timedelta(**{UNITS[unit]: count})


@given(st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2105, 1, 1)))
def test_a_time_is_what_the_reading_sync_takes_it_for(at: datetime) -> None:
    for written in (at.isoformat(), f"{at.isoformat()}Z", f"{at.isoformat()}+02:00", f"{at:%Y-%m-%d}"):
        window = Order.asked({"since": written}).window
        assert window is not None
        assert period.ago(written, NOW) == window.since


@given(st.text())
def test_what_is_no_time_is_refused_in_words(text: str) -> None:
    try:
        found = period.ago(text, NOW)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - most texts are none
    else:
        assert found.tzinfo is UTC


@pytest.mark.parametrize("text", ["", "1", "h", "1w", "-1h", "1h30m", "yesterday", "2026-13-01", "999999d"])
def test_these_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"a time such as|a length of time|calendars"):
        period.ago(text, NOW)


def test_the_reading_sync_refuses_what_is_none_as_before() -> None:
    with pytest.raises(BadRequest, match="since is a date or a time as 2026-11-28T12:00:00Z"):
        Order.asked({"since": "yesterday"})
