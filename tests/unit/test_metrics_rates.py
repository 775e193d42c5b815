"""A rate is right or it is not known; it is never a guess, a zero in its place, or an underflow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.metrics import rates

COUNTERS = st.lists(st.integers(0, 2**64), min_size=1, max_size=6)


@given(COUNTERS, st.lists(st.integers(0, 2**64), min_size=6, max_size=6), st.floats(0.001, 100))
def test_growth_is_exact_or_unknown(before: list[int], after: list[int], seconds: float) -> None:
    after = after[: len(before)]
    grown = rates.growth(before, after, seconds, longest=25.0)
    fell = any(new < old for old, new in zip(before, after, strict=True))
    assert grown.reset == fell
    if fell or seconds > 25.0:
        assert grown.deltas is None
        assert rates.per_second(grown, len(before)) == [None] * len(before)
    else:
        assert grown.deltas is not None
        assert [old + (delta or 0) for old, delta in zip(before, grown.deltas, strict=True)] == after
        assert all(rate is not None and rate >= 0 for rate in rates.per_second(grown, len(before)))


@given(st.floats(max_value=0))
def test_no_time_no_rate(seconds: float) -> None:
    assert rates.growth([1], [2], seconds, longest=25.0).deltas is None


def test_a_counter_that_starts_anew_gives_no_rate_once_and_then_again_one() -> None:
    counters: rates.Counters[str] = rates.Counters()
    counters.observe({"eth0": [1000, 50]}, 0.0, interval=10)
    assert counters.observe({"eth0": [2000, 60]}, 10.0, interval=10)["eth0"].deltas == [1000, 10]
    reset = counters.observe({"eth0": [30, 70]}, 20.0, interval=10)["eth0"]
    assert reset.reset
    assert reset.deltas is None
    assert counters.observe({"eth0": [130, 71]}, 30.0, interval=10)["eth0"].deltas == [100, 1]


def test_an_interface_that_goes_away_takes_nothing_from_the_others() -> None:
    """A total over all interfaces that underflows, capped and shown as 0, is what a peer makes of this."""
    counters: rates.Counters[str] = rates.Counters()
    counters.observe({"eth0": [1000], "wg0": [10**12]}, 0.0, interval=10)
    grown = counters.observe({"eth0": [1500]}, 10.0, interval=10)
    assert set(grown) == {"eth0"}
    assert grown["eth0"].deltas == [500]
    back = counters.observe({"eth0": [1600], "wg0": [5]}, 20.0, interval=10)
    assert back["wg0"].deltas is None
    assert back["eth0"].deltas == [100]


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**31 - 1))
def test_a_counter_of_32_bits_goes_round_and_one_that_lost_a_little_was_reset(old: int, delta: int) -> None:
    after = (old + delta) % 2**32
    grown = rates.growth([5, old], [6, after], 10.0, longest=25.0, narrow=(1,))
    assert (grown.deltas, grown.reset) == ([1, delta], False)
    if delta:
        back = rates.growth([5, after], [6, old], 10.0, longest=25.0, narrow=(1,))
        assert back.reset is (old < after)
    assert rates.growth([5, 2**32], [4, 0], 10.0, longest=25.0, narrow=(1,)).reset


def test_two_readings_too_far_apart_give_no_rate_and_no_reset() -> None:
    counters: rates.Counters[str] = rates.Counters()
    counters.observe({"eth0": [1000]}, 0.0, interval=10)
    late = counters.observe({"eth0": [2000]}, 25.1, interval=10)["eth0"]
    assert (late.deltas, late.reset) == (None, False)


def test_what_was_not_known_for_once_has_no_rate_then_and_is_no_reset() -> None:
    """Taken for 0 it would be a reset, and then the whole total the growth of one interval."""
    counters: rates.Counters[str] = rates.Counters()
    seen = []
    for minute, (moved, used) in enumerate([(5e9, 10), (None, 70), (5e9 + 60, 130), (5e9 + 120, 190)]):
        grown = counters.observe({"db": (moved, used)}, 60.0 * minute, interval=60)["db"]
        seen.append((rates.per_second(grown, 2), grown.reset))
    assert seen == [([None, None], False), ([None, 1], False), ([None, 1], False), ([1, 1], False)]


def test_a_reset_is_told_by_what_is_known() -> None:
    counters: rates.Counters[str] = rates.Counters()
    counters.observe({"db": (None, 500)}, 0.0, interval=60)
    grown = counters.observe({"db": (7, 3)}, 60.0, interval=60)["db"]
    assert (grown.deltas, grown.reset) == (None, True)
    assert counters.observe({"db": (None, None)}, 120.0, interval=60)["db"] == rates.Growth(60.0, [None, None])
