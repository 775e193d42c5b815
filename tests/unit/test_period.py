"""What a person types for a length or a point of time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.commands import logs, timeline
from homelab_agent.core import period
from homelab_agent.core.http import BadRequest
from homelab_agent.reading.order import Order

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@given(st.integers(0, 9999), st.sampled_from(sorted(UNITS)))
def test_a_length_of_time_is_so_long_ago(count: int, unit: str) -> None:
    assert NOW - period.ago(f"{count}{unit}", NOW) == timedelta(**{UNITS[unit]: count})


@pytest.fixture(params=["UTC", "Europe/Berlin", "America/St_Johns"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def test_a_time_without_a_zone_is_this_hosts_as_what_is_printed(zone: str) -> None:
    at = datetime(2026, 7, 4, 18, 30, tzinfo=ZoneInfo(zone))
    for written in ("2026-07-04T18:30", "2026-07-04 18:30:00", at.isoformat(), at.astimezone(UTC).isoformat()):
        assert period.ago(written, NOW) == at
    assert period.ago("2026-07-04", NOW) == datetime(2026, 7, 4, tzinfo=ZoneInfo(zone))


def test_a_time_of_day_is_the_last_one_that_was(zone: str) -> None:
    for hour in range(24):
        found = period.ago(f"{hour:02}:30", NOW)
        assert NOW - timedelta(days=1) < found <= NOW
        assert (found.astimezone(ZoneInfo(zone)).hour, found.astimezone(ZoneInfo(zone)).minute) == (hour, 30)
    assert period.ago("6:05", NOW) == period.ago("06:05:00", NOW)
    with pytest.raises(ValueError, match="18:30"):
        period.ago("25:00", NOW)


def test_a_window_that_is_still_to_come_is_refused_in_the_time_that_is_meant(zone: str) -> None:
    del zone
    with pytest.raises(click.UsageError) as refused:
        timeline.check_window(period.ago("2999-07-04", NOW), None)
    said, _, here = refused.value.message.partition("; here it is ")
    assert said == "--since 2999-07-04 00:00:00 is still to come"
    assert abs(datetime.fromisoformat(here).astimezone() - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("command", [logs.commands, timeline.commands], ids=["logs", "timeline"])
def test_the_help_says_whose_time_it_is(command: click.Command) -> None:
    helps = {one.name: str(getattr(one, "help", "")) for one in command.params}
    assert helps["until"] == "Up to then; a time without a zone is this host's."
    assert "UTC" not in str(helps["since"])


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
