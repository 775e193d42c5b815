"""A release is proven when nothing that was well before is failed for ten seconds on end, and the agent stays up."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core.client import AgentNotRunning
from homelab_agent.installing.proving import NotAsWell, Picture, prove, worse

STATES = ("ok", "degraded", "failed", "disabled", "not_available")
NAMES = ("web", "spool", "metrics.sampler")


def finding(check: str, state: str) -> dict[str, str]:
    return {"check": check, "state": state, "detail": f"{check} is {state}"}


BEFORE = [finding("web", "ok"), finding("database", "failed"), finding("gate", "degraded")]
WELL = Picture("12:00", [finding("web", "ok"), finding("database", "failed"), finding("gate", "ok")])
ILL = Picture("12:00", [finding("web", "failed")])


class Course:
    """An agent that answers second by second what a test has written down; its last answer for ever."""

    def __init__(self, *answers: Picture | None) -> None:
        self.answers = list(answers)
        self.now = 0.0

    def ask(self) -> Picture:
        answer = self.answers[min(int(self.now), len(self.answers) - 1)]
        if answer is None:
            raise AgentNotRunning(socket="/run/homelab-agent/agent.sock")
        return answer

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def prove(self, seconds: float = 30) -> float:
        """Return when it was proven."""
        prove(self.ask, BEFORE, seconds=seconds, settled=10, monotonic=lambda: self.now, sleep=self.sleep)
        return self.now


def test_what_was_in_trouble_before_or_is_new_keeps_no_release_back() -> None:
    now = [finding("web", "ok"), finding("database", "failed"), finding("gate", "failed"), finding("new", "failed")]
    assert worse(BEFORE, now) == []
    assert worse(BEFORE, [finding("web", "failed")]) == [finding("web", "failed")]


@given(*[st.dictionaries(st.sampled_from(NAMES), st.sampled_from(STATES)) for _ in range(2)])
def test_worse_is_what_went_from_ok_to_failed(before: dict[str, str], now: dict[str, str]) -> None:
    found = worse([finding(*item) for item in before.items()], [finding(*item) for item in now.items()])
    assert {one["check"] for one in found} == {
        name for name in now if now[name] == "failed" and before.get(name) == "ok"
    }


def test_it_has_to_be_well_for_a_while() -> None:
    assert Course(WELL).prove() == 10


def test_what_fails_at_first_may_come_up() -> None:
    assert Course(None, None, ILL, ILL, WELL).prove() == 14


@pytest.mark.parametrize("answers", [(None,), (ILL,), (WELL, ILL) * 40], ids=["away", "ill", "now and then"])
def test_what_is_not_well_is_not_proven(answers: tuple[Picture | None, ...]) -> None:
    course = Course(*answers)
    with pytest.raises(NotAsWell):
        course.prove()
    assert course.now == 30


def test_one_that_starts_anew_all_the_time_is_never_proven() -> None:
    def starts() -> Iterator[Picture]:
        for number in range(60):
            yield Picture(f"12:00:{number // 8}", WELL.findings)

    with pytest.raises(NotAsWell, match=r"on end|anew"):
        Course(*starts()).prove()


def test_the_trouble_is_named() -> None:
    raised: Callable[[], float] = Course(ILL).prove
    with pytest.raises(NotAsWell, match="web is failed"):
        raised()
