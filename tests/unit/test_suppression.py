from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core.journal.suppression import BURST, KINDS_MAX, WINDOW_SECONDS, Suppression


def event(name: str = "spool.thinned", **values: Any) -> dict[str, Any]:
    return {"level": "info", "event": name, **values}


def written(suppression: Suppression, events: Sequence[dict[str, Any]], at: float) -> list[Any]:
    return [line for each in events for line in suppression.admit(each, at)]


def test_a_few_identical_events_are_all_written() -> None:
    assert written(Suppression(), [event()] * BURST, at=0.0) == [event()] * BURST


def test_a_flood_becomes_a_burst_and_one_line_that_counts_the_rest() -> None:
    suppression = Suppression()
    flood = [event(rows=number) for number in range(BURST + 412)]
    assert written(suppression, flood, at=0.0) == flood[:BURST]
    assert list(suppression.due(WINDOW_SECONDS - 0.1)) == []
    assert list(suppression.due(WINDOW_SECONDS)) == [event(rows=BURST + 411, suppressed=412)]
    assert list(suppression.due(WINDOW_SECONDS)) == []


def test_a_flood_that_goes_on_is_one_line_per_window_until_a_quiet_one() -> None:
    suppression = Suppression()
    written(suppression, [event()] * 100, at=0.0)
    assert written(suppression, [event()] * 100, at=WINDOW_SECONDS) == [event(suppressed=100 - BURST)]
    assert list(suppression.due(2 * WINDOW_SECONDS)) == [event(suppressed=100)]
    assert list(suppression.due(3 * WINDOW_SECONDS)) == []
    assert suppression.next_due() is None
    assert written(suppression, [event()], at=3 * WINDOW_SECONDS) == [event()]


def test_what_differs_in_more_than_a_number_is_not_the_same() -> None:
    suppression = Suppression()
    events = [event(disk=f"sd{letter}", ok=ok) for letter in "abcdefgh" for ok in (True, False)]
    assert written(suppression, events, at=0.0) == events


def test_requests_that_differ_in_their_id_only_are_the_same() -> None:
    suppression = Suppression()
    events = [event("web.refused", request_id=f"r{number}", time=f"t{number}") for number in range(20)]
    assert written(suppression, events, at=0.0) == events[:BURST]


def test_the_memory_of_kinds_is_bounded_and_forgets_nothing_that_was_suppressed() -> None:
    suppression = Suppression()
    written(suppression, [event()] * (BURST + 3), at=0.0)
    lines = written(suppression, [event(path=f"/{number}") for number in range(KINDS_MAX)], at=1.0)
    assert event(suppressed=3) in lines
    assert len(lines) == KINDS_MAX + 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 7)), max_size=200))
def test_every_event_is_either_written_or_counted(steps: list[tuple[str, float]]) -> None:
    suppression = Suppression()
    now = 0.0
    lines: list[Any] = []
    for name, pause in steps:
        now += pause
        lines += suppression.admit(event(name), now)
    lines += suppression.rest()
    for name in "abc":
        mine = [line for line in lines if line["event"] == name]
        assert sum(line.get("suppressed", 1) for line in mine) == sum(step[0] == name for step in steps)
