"""What strangers may cost: refusals by source, and bytes that are not verified."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.gitops.allowance import SMALL_BODY, Allowance, Budget, Crowded

SOURCE = "192.0.2.1"
MIB = 1024 * 1024


def spent(allowance: Allowance, source: str, times: int, now: float = 0.0) -> int:
    """Return how many of so many refusals the source had left."""
    return sum(allowance.spend(source, now) == 0 for _ in range(times))


def test_so_many_refusals_a_minute_then_a_wait() -> None:
    allowance = Allowance(30)
    assert allowance.wait(SOURCE, 0) == 0
    assert spent(allowance, SOURCE, 40) == 30
    assert allowance.wait(SOURCE, 0) == pytest.approx(2.0)
    assert allowance.spend(SOURCE, 1.0) == pytest.approx(1.0)
    assert allowance.wait(SOURCE, 2.0) == 0


def test_it_fills_up_again_and_no_further() -> None:
    allowance = Allowance(30)
    spent(allowance, SOURCE, 30)
    assert spent(allowance, SOURCE, 100, now=20.0) == 10
    assert spent(allowance, SOURCE, 100, now=100_000.0) == 30


def test_one_source_does_not_pay_for_another() -> None:
    allowance = Allowance(30)
    spent(allowance, SOURCE, 100)
    for another in ("192.0.2.2", "::1", "unix", ""):
        assert allowance.wait(another, 0) == 0


def test_an_ipv6_network_is_one_source_however_many_addresses_it_has() -> None:
    allowance = Allowance(30)
    assert sum(allowance.spend(f"2001:db8:1:2::{number:x}", 0) == 0 for number in range(100)) == 30
    assert allowance.wait("2001:db8:1:2:ffff::1", 0) > 0
    assert allowance.wait("2001:db8:1:3::1", 0) == 0


def test_less_than_one_a_minute_is_possible() -> None:
    allowance = Allowance(0.5)
    assert spent(allowance, SOURCE, 2) == 1
    assert allowance.wait(SOURCE, 0) == pytest.approx(120.0)


def test_many_sources_cost_a_bounded_memory_and_the_quiet_one_is_forgotten() -> None:
    allowance = Allowance(1)
    spent(allowance, SOURCE, 5)
    for number in range(2000):
        allowance.spend(f"198.51.{number // 256}.{number % 256}", 0)
    assert len(allowance._buckets) == 1024
    assert allowance.wait(SOURCE, 0) == 0


@given(st.lists(st.tuples(st.floats(0, 120), st.booleans()), max_size=200))
def test_within_any_time_no_more_are_let_pass_than_the_rate_allows(steps: list[tuple[float, bool]]) -> None:
    allowance, now, passed = Allowance(6), 0.0, 0
    for pause, waits in steps:
        now += pause if waits else 0.0
        passed += allowance.spend(SOURCE, now) == 0
    assert passed <= 6 + now * 6 / 60 + 1e-6


def test_bodies_share_the_budget_and_give_it_back() -> None:
    budget = Budget(64 * MIB)
    with budget.hold(25 * MIB) as first:
        first.take(bytes(25 * MIB))
        with budget.hold(25 * MIB) as second:
            second.take(bytes(7 * MIB))
            with pytest.raises(Crowded):
                second.take(b"x")
    with budget.hold(25 * MIB) as third:
        third.take(bytes(25 * MIB))


def test_large_bodies_leave_room_for_small_ones_and_small_ones_for_large_ones() -> None:
    budget = Budget(2 * MIB)
    with budget.hold(25 * MIB) as large, budget.hold(SMALL_BODY) as small:
        large.take(bytes(MIB))
        small.take(bytes(MIB))
        for declared in (SMALL_BODY, SMALL_BODY + 1):
            with budget.hold(declared) as another, pytest.raises(Crowded):
                another.take(b"x")


def test_what_ends_in_an_error_gives_it_back_too() -> None:
    budget = Budget(2 * MIB)

    def fail() -> None:
        with budget.hold(1) as held:
            held.take(bytes(MIB))
            raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            fail()
    assert Crowded.status == 503
    assert Crowded.retry_after > 0


def test_a_body_that_comes_byte_by_byte_is_held_in_few_pieces() -> None:
    with Budget().hold(200_000) as held:
        for number in range(200_000):
            held.take(bytes([number % 256]))
        assert len(held.pieces) == 4
        assert held.whole() == bytes(number % 256 for number in range(200_000))


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_however_it_comes_it_is_whole_in_the_end(chunks: list[bytes]) -> None:
    with Budget().hold(1) as held:
        for chunk in chunks:
            held.take(chunk)
        assert held.whole() == b"".join(chunks)
