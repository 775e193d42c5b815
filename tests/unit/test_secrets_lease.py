"""When a token is renewed or replaced: always before it dies, whatever the server grants."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.secrets import lease
from homelab_agent.secrets.lease import Step


@pytest.mark.parametrize(
    ("first", "then", "renewable", "step"),
    [
        (3600.0, [], True, Step.RENEW),
        (3600.0, [3600.0, 3600.0], True, Step.RENEW),
        (20.0, [20.0, 20.0, 20.0, 10.0], True, Step.LOG_IN),  # as the server did for ttl 20 s, max 60 s
        (3600.0, [3599.0], True, Step.RENEW),
        (3600.0, [], False, Step.LOG_IN),
        (0.0, [], True, Step.NOTHING),
    ],
)
def test_a_token_is_renewed_until_the_server_grants_less(
    *,
    first: float,
    then: list[float],
    renewable: bool,
    step: Step,
) -> None:
    granted = lease.granted(0, first, renewable=renewable, early=0)
    for seconds in then:
        granted = granted.renewed(0, seconds, renewable=renewable, early=0)
    assert granted.step is step


def test_it_is_due_at_two_thirds_or_a_little_earlier() -> None:
    assert lease.granted(100, 3600, renewable=True, early=0).due == 100 + 2400
    assert lease.granted(100, 3600, renewable=True, early=1).due == pytest.approx(100 + 2040)
    assert lease.granted(100, 0, renewable=True, early=1).due is None


@given(
    ttl=st.floats(2, 100_000),
    beyond=st.floats(0, 10),
    drawn=st.lists(st.floats(0, 1), min_size=50, max_size=50),
    late=st.floats(0, 0.25),
)
def test_no_token_dies_before_something_is_done_about_it(
    ttl: float, beyond: float, drawn: list[float], late: float
) -> None:
    maximum = ttl * (1 + beyond)
    now, born = 0.0, 0.0
    held = lease.granted(now, ttl, renewable=True, early=drawn[0])
    steps = set()
    for early in drawn:
        assert held.due is not None
        assert held.seconds is not None
        now = held.due + late * held.seconds  # who does it may come late
        assert not held.is_over(now)
        steps.add(held.step)
        if held.step is Step.RENEW:
            held = held.renewed(now, min(ttl, maximum - (now - born)), renewable=True, early=early)
        else:
            born = now
            held = lease.granted(now, ttl, renewable=True, early=early)
    assert Step.LOG_IN in steps
    assert Step.NOTHING not in steps


@given(st.lists(st.floats(0, 60), min_size=200, max_size=200))
def test_what_is_refused_again_and_again_never_locks_the_role_out(waits: list[float]) -> None:
    """OpenBao counts refusals that are less than 15 minutes apart, and locks a role out at the fifth."""
    counted = 0
    for refusals, wait in enumerate(waits, 1):
        counted += 1
        assert counted < 5
        if lease.hold(refusals) + wait > 15 * 60:
            counted = 0


def test_before_any_refusal_nothing_is_waited_for() -> None:
    assert lease.hold(0) == 0
