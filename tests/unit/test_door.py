"""The public door: whom it tells that it was shut, what it counts, and whose nonce it knows."""

from __future__ import annotations

import pytest

from homelab_agent.core.door import SOURCES_MAX, PublicDoor, Visits

NOTHING = Visits(requests=0, sources=0, sent_bytes=0)


def test_it_is_shut_at_first_and_again_as_soon_as_it_is_told() -> None:
    door = PublicDoor()
    seen: list[bool] = []
    door.on_shut(lambda: seen.append(door.is_open))
    door.shut()
    assert seen == []
    states = [door.is_open]
    for change in (door.open, door.open, door.shut, door.shut, door.open, door.shut):
        change()
        states.append(door.is_open)
    assert states == [False, True, True, False, False, True, False]
    assert seen == [False, False]


def test_it_is_shut_also_when_somebody_fails_to_follow() -> None:
    door = PublicDoor()

    def fail() -> None:
        raise ZeroDivisionError

    door.on_shut(fail)
    door.open()
    with pytest.raises(ZeroDivisionError):
        door.shut()
    assert not door.is_open


def test_visits_are_those_of_one_opening_and_stay_known_after_it() -> None:
    door = PublicDoor()
    door.open()
    for source in ("198.51.100.7", "198.51.100.8", "198.51.100.7"):
        door.visited(source)
    door.answered(100)
    door.open()
    door.answered(20)
    door.shut()
    assert door.visits() == Visits(requests=3, sources=2, sent_bytes=120)
    door.open()
    assert door.visits() == NOTHING


def test_sources_are_counted_up_to_a_bound_and_requests_beyond() -> None:
    door = PublicDoor()
    door.open()
    for number in range(SOURCES_MAX + 7):
        door.visited(f"2001:db8::{number:x}")
    assert door.visits() == Visits(requests=SOURCES_MAX + 7, sources=SOURCES_MAX, sent_bytes=0)


def test_a_nonce_is_ours_while_its_probe_goes_on_and_no_longer() -> None:
    door = PublicDoor()
    assert not door.is_probe("")
    with door.probing() as one, door.probing() as other:
        assert one != other
        assert door.is_probe(one)
        assert door.is_probe(other)
        assert not door.is_probe(one[:-1])
        assert not PublicDoor().is_probe(one)
    assert not door.is_probe(one)
    with pytest.raises(ZeroDivisionError), door.probing() as broken:
        raise ZeroDivisionError
    assert not door.is_probe(broken)
