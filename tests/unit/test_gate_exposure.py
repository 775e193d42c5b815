"""A door that is open for longer than somebody wants, or published though it should be shut, is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from homelab_agent.core.health import State
from homelab_agent.gate import exposure
from homelab_agent.gate.ledger import PAUSE_SECONDS
from homelab_agent.gate.policy import PROMPT_TRIES, STRAY_LOOKS, Gate
from tests.clock import MovableClock
from tests.gate_life import NOBODY, Life, living

CLOSING = Gate(phase="closing", overlay="held", why="held by ann until it is released: an upgrade")
CLOSED = Gate(phase="closed", overlay="held", why="held by ann until it is released: an upgrade")


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def life(tmp_path: Path, clock: MovableClock) -> AsyncIterator[Life]:
    async with living(tmp_path, clock) as begun:
        yield begun


def test_an_open_door_is_as_it_should_be_however_long_where_no_bound_is_set() -> None:
    assert exposure.finding(Gate(phase="open"), 1e9, 0).state is State.OK


def test_a_door_that_is_open_for_longer_than_its_bound_is_degraded() -> None:
    for phase in ("open", "degraded"):
        found = exposure.finding(Gate(phase=phase), 7200, 7200)
        assert found.state is State.DEGRADED
        assert found.detail == "the internet has been let in for more than 2 h ([gate] tell_open_after)"
        assert found.repair.startswith("homelab-agent gate close --reason")
        assert exposure.finding(Gate(phase=phase), 7199, 7200).state is State.OK
    assert exposure.finding(Gate(phase="closed"), 0, 7200).state is State.OK


def test_a_door_that_cannot_be_shut_is_failed_and_one_that_takes_its_time_is_not() -> None:
    assert exposure.finding(replace(CLOSING, tries=PROMPT_TRIES), 0, 0).state is State.OK
    found = exposure.finding(replace(CLOSING, tries=PROMPT_TRIES + 1), 0, 0)
    assert found.state is State.FAILED
    assert found.detail == (
        "it should be shut (held by ann until it is released: an upgrade), and Tailscale's session has not ended"
    )
    assert found.repair == "homelab-agent gate close --now"


def test_of_a_daemon_that_does_not_answer_the_door_itself_tells() -> None:
    silent = replace(CLOSING, overlay="unknown", tries=100)
    assert exposure.finding(silent, 0, 0).state is State.OK


def test_a_session_that_nobody_here_has_begun_is_told_when_it_stays() -> None:
    assert exposure.finding(replace(CLOSED, stray=STRAY_LOOKS - 1), 0, 0).state is State.OK
    found = exposure.finding(replace(CLOSED, stray=STRAY_LOOKS), 0, 0)
    assert found.state is State.FAILED
    assert found.detail == "a session that was not begun by this agent publishes the door, and does not end"
    assert found.repair == "homelab-agent gate close --now"


async def test_what_shuts_for_a_moment_is_open_at_a_stretch_also_over_an_agent_that_was_killed(
    life: Life, clock: MovableClock
) -> None:
    assert life.ledger.stretch == 0
    await life.ledger.begin("ready")
    clock.hang(100)
    await life.ledger.end("not ready: state", NOBODY)
    assert life.ledger.stretch == 0
    clock.hang(PAUSE_SECONDS)
    await life.ledger.begin("ready")
    clock.hang(7)
    await life.ledger.beat(NOBODY)
    assert life.ledger.stretch == 107
    life.ledger.present = None  # as after a kill: what is on disk is what the next agent knows
    clock.hang(60)
    await life.ledger.begin("ready")
    clock.hang(20)
    await life.ledger.beat(NOBODY)
    assert 120 <= life.ledger.stretch <= 127


async def test_a_door_that_was_shut_for_long_begins_a_stretch(life: Life, clock: MovableClock) -> None:
    await life.ledger.begin("ready")
    clock.hang(100)
    await life.ledger.end("held", NOBODY)
    clock.hang(PAUSE_SECONDS + 1)
    await life.ledger.begin("ready")
    clock.hang(7)
    await life.ledger.beat(NOBODY)
    assert life.ledger.stretch == 7


async def test_a_clock_that_is_set_makes_no_door_open_for_long(life: Life, clock: MovableClock) -> None:
    await life.ledger.begin("ready")
    clock.hang(5)
    clock.step(86400 * 365)
    await life.ledger.beat(NOBODY)
    assert life.ledger.stretch == 5
