"""The timeline's order: by time, and no effect before its cause, whatever clocks and rows say."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core.timeline import Entry, causes, ordered

START = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


def entry(name: str, seconds: int, *, after: Sequence[str] = (), before: Sequence[str] = ()) -> Entry:
    return Entry(name, START + timedelta(seconds=seconds), "nas", "kind", name, after=after, before=before)


@st.composite
def histories(draw: st.DrawFn) -> list[Entry]:
    """Give entries, each of which may have earlier ones for causes, directly or by way of what is in no list."""
    found = []
    for number in range(draw(st.integers(1, 12))):
        known = [f"e{earlier}" for earlier in range(number)]
        after = draw(st.lists(st.sampled_from([*known, *(f"hidden of {name}" for name in known)]))) if known else []
        found.append(entry(f"e{number}", draw(st.integers(0, 5)), after=after, before=[f"hidden of e{number}"]))
    return found


def names(entries: Sequence[Entry]) -> list[str]:
    return [one.name for one in entries]


@given(histories(), st.randoms())
def test_no_effect_stands_before_its_cause_and_the_order_is_one(history: list[Entry], dice: random.Random) -> None:
    found = ordered(history)
    place = {name: number for number, name in enumerate(names(found))}
    assert sorted(place) == sorted(names(history))
    for one in history:
        for cause in one.after:
            assert place[cause.removeprefix("hidden of ")] < place[one.name]
    shuffled = list(history)
    dice.shuffle(shuffled)
    assert names(ordered(shuffled)) == names(found)
    for name, known in causes(found).items():
        (of,) = [one for one in history if one.name == name]
        assert set(known) == {cause.removeprefix("hidden of ") for cause in of.after}


@given(st.lists(st.integers(0, 100), unique=True))
def test_what_has_no_cause_stands_by_its_time(seconds: list[int]) -> None:
    found = ordered(entry(f"e{number}", at) for number, at in enumerate(seconds))
    assert [one.at for one in found] == sorted(one.at for one in found)


@given(st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(0, 8))), max_size=9))
def test_rows_that_contradict_one_another_are_told_all_the_same(rows: list[tuple[int, list[int]]]) -> None:
    history = [entry(f"e{number}", at, after=[f"e{one}" for one in after]) for number, (at, after) in enumerate(rows)]
    assert sorted(names(ordered(history))) == sorted(names(history))
    assert causes(history).keys() == {one.name for one in history}


def test_a_cause_that_a_clock_put_later_brings_its_effect_along() -> None:
    history = [entry("push", 60), entry("run", 10, after=["push"]), entry("other", 30), entry("later", 61)]
    assert names(ordered(history)) == ["other", "push", "run", "later"]


def test_at_one_time_the_cause_is_first() -> None:
    assert names(ordered([entry("a", 0, after=["z"]), entry("z", 0)])) == ["z", "a"]
