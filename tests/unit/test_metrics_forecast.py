"""In how many days a disk is full: growth is told from what comes and goes, and from one large copy."""

from __future__ import annotations

import math
import random
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core.health import State
from homelab_agent.metrics.forecast import Forecast, forecast
from homelab_agent.metrics.space import judged

DAY = date(2026, 11, 1)
GIB = 2**30


def days(*peaks: float) -> dict[date, float]:
    return {DAY + timedelta(days=number): peak for number, peak in enumerate(peaks)}


def test_what_grows_evenly_is_full_when_that_is_reached() -> None:
    found = forecast(days(*(100 * GIB + number * GIB for number in range(28))), available=10 * GIB)
    assert found == Forecast(GIB, 10.0)


@given(st.floats(0, 20), st.integers(0, 2**32), st.integers(10, 28))
def test_noise_hardly_moves_it(noise: float, seed: int, known: int) -> None:
    dice = random.Random(seed)
    peaks = [100 * GIB + number * GIB + dice.uniform(0, noise / 100) * GIB for number in range(known)]
    found = forecast(days(*peaks), available=10 * GIB)
    assert found is not None
    assert math.isclose(found.full_in_days or 0, 10, rel_tol=0.15)


@pytest.mark.parametrize("period", [2, 3, 5, 7])
def test_what_comes_and_goes_within_a_week_is_no_growth(period: int) -> None:
    found = forecast(days(*(100 * GIB + (number % period) * 20 * GIB for number in range(28))), available=GIB)
    assert found is not None
    assert found.full_in_days is None


@pytest.mark.parametrize("period", [2, 7])
def test_growth_is_found_under_what_comes_and_goes(period: int) -> None:
    peaks = [100 * GIB + number * GIB + (number % period) * 20 * GIB for number in range(28)]
    found = forecast(days(*peaks), available=14 * GIB)
    assert found is not None
    assert math.isclose(found.full_in_days or 0, 14, rel_tol=0.35)


def test_one_large_copy_is_no_growth() -> None:
    found = forecast(days(*[100.0 * GIB] * 20, *[180.0 * GIB] * 8), available=20 * GIB)
    assert found == Forecast(0.0, None)


def test_what_empties_is_never_full() -> None:
    found = forecast(days(*(100 * GIB - number * GIB for number in range(28))), available=GIB)
    assert found is not None
    assert (found.bytes_per_day, found.full_in_days) == (-GIB, None)


def test_days_may_be_missing_and_few_tell_nothing() -> None:
    every_third = {day: peak for number, (day, peak) in enumerate(days(*range(28)).items()) if number % 3 == 0}
    assert forecast(every_third, available=10.0) == Forecast(1.0, 10.0)
    assert forecast(days(*range(9)), available=10.0) is None
    assert forecast({}, available=10.0) is None


@given(st.dictionaries(st.dates(DAY, DAY + timedelta(days=40)), st.floats(0, 2**60)), st.floats(0, 2**60))
def test_whatever_is_known_it_is_a_number_or_nothing(peaks: dict[date, float], available: float) -> None:
    found = forecast(peaks, available)
    if found is not None and found.full_in_days is not None:
        assert 0 <= found.full_in_days < 3650


def test_what_is_full_soon_is_told_the_soonest_first() -> None:
    known = {
        "/": Forecast(1.0, 40.0),
        "/srv": Forecast(1.0, 9.0),
        "/var my": Forecast(1.0, 1.5),
        "/home": Forecast(0, None),
    }
    finding = judged(known)
    assert finding.state is State.FAILED
    assert finding.detail.startswith("/var my is full in 1.5 days")
    assert "/srv is full in 9.0 days" in finding.detail
    assert "'/var my'" in finding.repair
    assert finding.about == {"/var my", "/var my now", "/srv"}
    assert judged({"/srv": Forecast(1.0, 9.0)}).state is State.DEGRADED
    assert judged({"/": Forecast(1.0, 40.0)}).state is State.OK
    assert judged({}).state is State.OK
