"""Thinning takes the oldest first, one of every two, and only as much as must be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core.spool import thinning
from homelab_agent.core.spool.parcel import Waybill

sizes = st.lists(st.integers(100, 5000), max_size=200)


def waybills_of(given_sizes: list[int]) -> list[Waybill]:
    start = 1_700_000_000_000_000
    return [
        Waybill(start + number, promise=False, at=number, until=number, rows=1, size=size)
        for number, size in enumerate(given_sizes)
    ]


@given(sizes, st.integers(0, 500_000))
def test_what_stays_is_within_the_allowance(given_sizes: list[int], allowance: int) -> None:
    waybills = waybills_of(given_sizes)
    gone = thinning.surplus(waybills, allowance)
    assert sum(waybill.size for waybill in waybills) - sum(waybill.size for waybill in gone) <= allowance
    assert len(set(gone)) == len(gone)
    assert set(gone) <= set(waybills)
    assert gone == sorted(gone)


@given(sizes)
def test_nothing_goes_that_need_not(given_sizes: list[int]) -> None:
    assert thinning.surplus(waybills_of(given_sizes), sum(given_sizes)) == []


@given(st.integers(8, 300))
def test_a_little_too_much_thins_the_older_half_and_leaves_the_newer_alone(count: int) -> None:
    waybills = waybills_of([1000] * count)
    gone = thinning.surplus(waybills, count * 1000 - 1)
    older = waybills[: (count + 1) // 2]
    assert set(gone) <= set(older)
    places = [waybills.index(waybill) for waybill in gone]
    assert all(places[n + 2] - places[n] > 2 for n in range(len(places) - 2)), "three neighbours went at once"


def test_parcels_of_two_kinds_that_alternate_are_thinned_alike() -> None:
    gone = thinning.halve(waybills_of([1000] * 2000))
    even = sum(waybill.at % 2 == 0 for waybill in gone)
    assert 400 < even < 600


def test_only_what_is_too_old_ages() -> None:
    waybills = waybills_of([1000] * 100)
    gone = thinning.aged(waybills, too_old=40)
    assert len(gone) == 20
    assert all(waybill.until < 40 for waybill in gone)
