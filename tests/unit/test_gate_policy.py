"""Whether a door is open: what it does at each look, and what it says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from homelab_agent.gate import policy
from homelab_agent.gate.intent import Hold
from homelab_agent.gate.policy import DEAD_VISITS, Gate, Order, Overlay, Phase, Seen, Timing
from homelab_agent.gate.prerequisites import Obstacle
from homelab_agent.gate.settings import GateSettings

TIMING = Timing()
READY = Seen(now=0.0, ready=True, entry="none", child=False)
UNREADY = replace(READY, ready=False, why_not="state: the disk is full")
OURS = replace(READY, entry="ours", child=True)
SICK = replace(OURS, ready=False, why_not="state: the disk is full")
BLIND = replace(OURS, entry="unknown")
DEAD, ALIVE = replace(OURS, path=False), replace(OURS, path=True)
HOLD = Hold("ann", "an upgrade", datetime(2026, 11, 28, 9, tzinfo=UTC), datetime(2026, 11, 28, 11, tzinfo=UTC))
LOGGED_OUT = Obstacle("this node is logged out of its tailnet", "sudo tailscale up")


class Door:
    """A door that is looked at, on a clock of its own."""

    def __init__(self, timing: Timing = TIMING, **gate: Any) -> None:
        self.gate = Gate(**gate)
        self.timing = timing
        self.now = 0.0

    def look(self, *looks: Seen, every: float = 1.0) -> list[Order]:
        """Look again and again, `every` seconds apart; return what is to be done each time."""
        orders = []
        for seen in looks:
            self.now += every
            self.gate, order = policy.step(self.gate, replace(seen, now=self.now), self.timing)
            orders.append(order)
        return orders

    def phases(self, *looks: Seen) -> list[Phase]:
        """Look again and again; return what the door is after each."""
        return [(self.look(seen), self.gate.phase)[1] for seen in looks]


def opening(timing: Timing = TIMING) -> Door:
    """Return a door that is about to open."""
    door = Door(timing)
    assert door.look(READY, READY, READY) == ["", "", "open"]
    return door


def opened(timing: Timing = TIMING) -> Door:
    """Return a door that has just opened."""
    door = opening(timing)
    assert door.phases(OURS) == ["open"]
    return door


def old() -> Door:
    """Return a door whose session has lasted for long."""
    door = opened()
    door.now += 1000.0
    return door


# Opening.


def test_a_door_opens_after_the_agent_was_ready_three_times_in_a_row_and_is_read_back() -> None:
    door = Door()
    assert door.look(READY, UNREADY, READY, READY) == [""] * 4
    assert (door.gate.phase, door.gate.why) == ("closed", "ready at 2 of 3 looks in a row")
    assert door.look(READY) == ["open"]
    assert (door.gate.phase, door.gate.why) == ("opening", "waits for tailscaled to publish it")
    assert not policy.lets_in(door.gate)
    assert door.look(replace(READY, child=True)) == [""]
    assert door.gate.phase == "opening"
    assert door.look(OURS) == [""]
    assert (door.gate.phase, door.gate.overlay, door.gate.why) == ("open", "", "ready at 3 looks in a row")
    assert policy.lets_in(door.gate)


def test_who_is_not_ready_is_told_why() -> None:
    door = Door()
    door.look(UNREADY)
    assert door.gate.why == "not ready: state: the disk is full"
    door.look(replace(UNREADY, why_not=""))
    assert door.gate.why == "not ready"


def test_what_was_published_while_the_agent_was_not_ready_lets_nobody_in_until_it_was_ready_anew() -> None:
    assert opening().phases(SICK, OURS, OURS, OURS) == ["opening", "opening", "opening", "open"]
    door = opening()
    assert door.look(SICK, SICK, SICK) == [""] * 3
    assert (door.gate.phase, door.gate.kept) == ("closing", True)


def test_what_tailscaled_does_not_publish_in_time_is_given_up_and_tried_again_later() -> None:
    door, waiting = opening(), replace(READY, child=True)
    assert door.look(*[waiting] * 15) == [""] * 14 + ["shut"]
    assert (door.gate.phase, door.gate.why) == ("closing", "tailscaled did not publish it within 15 s")
    assert door.look(*[READY] * 60) == [""] * 59 + ["open"]


def test_a_child_that_ends_says_why_there_and_while_the_door_stays_shut() -> None:
    refused = Obstacle("Access denied: serve config denied", "sudo tailscale set --operator=homelab-agent")
    door = opening()
    assert door.look(replace(READY, ended=refused)) == ["shut"]
    assert (door.gate.phase, door.gate.why, door.gate.repair) == ("closing", refused.what, refused.repair)
    door.look(READY)
    assert (door.gate.phase, door.gate.why, door.gate.repair) == ("closed", refused.what, refused.repair)
    door.look(replace(READY, hold=HOLD), READY)
    assert (door.gate.why, door.gate.repair) == (f"stays shut for 60 s: {refused.what}", refused.repair)


# Shutting.


def test_a_door_shuts_after_the_agent_was_not_ready_three_times_in_a_row() -> None:
    door = old()
    assert door.look(SICK, SICK, OURS, SICK, SICK) == [""] * 5
    assert (door.gate.phase, door.gate.why) == ("open", "ready at 3 looks in a row")
    assert door.gate.doubt == "not ready: state: the disk is full"
    assert door.look(SICK) == ["shut"]
    assert (door.gate.phase, door.gate.why) == ("closing", "not ready: state: the disk is full")
    assert door.gate.doubt == ""


UNTIL = "held by ann until 2026-11-28 11:00 UTC: an upgrade"
FOR_LONG = "held by ann until it is released: an upgrade"
TAKEN = Obstacle("port 8443 is taken", "tailscale serve --https=8443 off")
GONE = Obstacle("tailscaled does not listen", "systemctl start tailscaled")
AT_ONCE: list[tuple[dict[str, Any], Overlay, str, str]] = [
    ({"urgent": "the agent stops"}, "", "the agent stops", ""),
    ({"hold": HOLD}, "held", UNTIL, "homelab-agent gate auto"),
    ({"hold": replace(HOLD, until=None), "urgent": "a stop"}, "held", FOR_LONG, "homelab-agent gate auto"),
    ({"obstacle": LOGGED_OUT}, "blocked", LOGGED_OUT.what, LOGGED_OUT.repair),
    ({"entry": "foreign"}, "conflict", "the port is somebody else's", "tailscale funnel status --json"),
    ({"entry": "foreign", "obstacle": TAKEN}, "conflict", TAKEN.what, TAKEN.repair),
    ({"entry": "unknown", "child": False}, "unknown", "tailscaled does not answer", "systemctl status tailscaled"),
    ({"entry": "unknown", "child": False, "obstacle": GONE}, "unknown", GONE.what, GONE.repair),
]


@pytest.mark.parametrize(("what", "overlay", "why", "repair"), AT_ONCE)
@pytest.mark.parametrize("before", [OURS, DEAD], ids=["open", "degraded"])
def test_what_is_urgent_shuts_it_at_once_also_when_it_has_just_opened(
    what: dict[str, Any], overlay: Overlay, why: str, repair: str, before: Seen
) -> None:
    door = opened()
    door.look(before)
    assert policy.lets_in(door.gate)
    assert door.look(replace(OURS, **what)) == ["shut"]
    assert not policy.lets_in(door.gate)
    assert (door.gate.phase, door.gate.kept) == ("closing", False)
    assert (door.gate.overlay, door.gate.why, door.gate.repair) == (overlay, why, repair)


@pytest.mark.parametrize(("what", "overlay", "why", "repair"), AT_ONCE)
def test_the_same_keeps_it_shut_and_ends_an_opening(
    what: dict[str, Any], overlay: Overlay, why: str, repair: str
) -> None:
    door = Door()
    assert door.look(*[replace(READY, **what)] * 5) == [""] * 5
    assert (door.gate.phase, door.gate.overlay, door.gate.why, door.gate.repair) == ("closed", overlay, why, repair)
    door = opening()
    assert door.look(replace(READY, **{"child": True, **what})) == ["shut"]
    assert (door.gate.phase, door.gate.overlay, door.gate.why) == ("closing", overlay, why)


def test_what_is_urgent_is_not_ready_however_well_all_else_is() -> None:
    door = Door()
    assert door.look(READY, READY, replace(READY, urgent="the loop lags"), READY, READY) == [""] * 5
    assert door.look(READY) == ["open"]


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ({"entry": "none"}, "tailscaled publishes it no more"),
        ({"entry": "stale"}, "tailscaled publishes it otherwise than it was asked to"),
        ({"child": False}, "Tailscale's session ended"),
        ({"entry": "none", "child": False, "ended": Obstacle("killed by signal 9", "")}, "killed by signal 9"),
    ],
)
def test_a_session_that_is_gone_or_changed_is_ended_and_another_begun(what: dict[str, Any], why: str) -> None:
    door = opened()
    assert door.look(replace(OURS, **what)) == ["shut"]
    assert (door.gate.phase, door.gate.kept, door.gate.why) == ("closing", False, why)
    assert door.look(*[READY] * 60, OURS) == [""] * 59 + ["open", ""]
    assert door.gate.phase == "open"


def test_it_is_not_shut_until_nothing_is_read_back_and_no_process_is_left() -> None:
    for nothing in (UNREADY, replace(UNREADY, entry="foreign")):
        door = old()
        door.look(SICK, SICK, SICK)
        left = [SICK, *(replace(UNREADY, entry=entry) for entry in ("ours", "stale", "unknown"))]
        assert door.look(*left, replace(nothing, child=True)) == ["shut"] * 5
        assert door.phases(nothing) == ["closed"]


LEFTOVER = replace(READY, entry="leftover")


def test_what_is_left_of_a_session_that_has_ended_is_waited_for_and_is_nobody_elses() -> None:
    door = old()
    ended = Obstacle("tailscale ended (signal 9) without a word", "")
    assert door.look(replace(LEFTOVER, ended=ended)) == ["shut"]
    assert (door.gate.phase, door.gate.overlay, door.gate.why) == ("closing", "", ended.what)
    assert door.phases(LEFTOVER, LEFTOVER, READY) == ["closing", "closing", "closed"]


def test_a_door_does_not_open_beside_a_session_that_leads_here_already() -> None:
    door = Door()
    assert door.look(*[LEFTOVER] * 5) == [""] * 5
    assert (door.gate.phase, door.gate.overlay) == ("closed", "")
    assert door.gate.why == "a session that was not begun by this agent leads here, and has not ended yet"
    assert door.gate.repair == "homelab-agent gate close --now"
    assert door.gate.stray == 5
    assert door.look(READY) == ["open"]
    assert door.gate.stray == 0


def test_what_cannot_be_ended_is_tried_at_the_usual_pace_after_a_while() -> None:
    door = old()
    door.look(replace(OURS, hold=HOLD))
    stays = replace(UNREADY, entry="stale")
    paces = [policy.next_look(door.gate, order, TIMING) for _ in range(20) for order in door.look(stays)]
    assert paces == sorted(paces)
    assert (paces[0], paces[-1]) == (TIMING.in_doubt, TIMING.every)
    door.look(UNREADY)
    assert (door.gate.phase, door.gate.tries) == ("closed", 0)


def test_what_keeps_it_from_shutting_is_told() -> None:
    door = old()
    door.look(SICK, SICK, SICK, replace(UNREADY, entry="unknown", obstacle=GONE))
    assert (door.gate.phase, door.gate.overlay) == ("closing", "unknown")
    assert (door.gate.why, door.gate.repair) == (GONE.what, GONE.repair)
    assert door.gate.shut_why == "not ready: state: the disk is full"


# The time that it stays as it is.


def test_a_door_that_was_open_stays_shut_for_a_minute_from_when_it_shut() -> None:
    assert old().look(SICK, SICK, SICK, *[READY] * 60) == ["", "", "shut", *[""] * 59, "open"]
    door = old()
    door.look(SICK, SICK, SICK, *[replace(UNREADY, entry="unknown")] * 40)
    assert door.look(*[READY] * 20) == [""] * 19 + ["open"]


def test_the_first_opening_after_a_start_does_not_wait_also_when_something_was_left() -> None:
    door = Door()
    assert door.look(replace(READY, entry="stale")) == ["shut"]
    assert (door.gate.phase, door.gate.why) == ("closing", "what an earlier session left is removed")
    assert door.look(READY, READY) == ["", "open"]
    door = Door()
    assert door.look(replace(READY, child=True), READY, READY) == ["shut", "", "open"]


def test_a_young_session_outlives_a_short_fault_and_lets_nobody_in_meanwhile() -> None:
    door = opened()
    assert door.look(SICK, SICK, SICK) == [""] * 3
    assert (door.gate.phase, door.gate.kept, policy.lets_in(door.gate)) == ("closing", True, False)
    assert door.look(OURS, SICK, OURS, OURS) == [""] * 4
    assert door.gate.phase == "closing"
    assert door.look(OURS) == [""]
    assert (door.gate.phase, door.gate.why) == ("open", "ready again at 3 looks in a row")


@pytest.mark.parametrize(
    "what",
    [
        {"hold": HOLD},
        {"urgent": "the agent stops"},
        {"obstacle": LOGGED_OUT},
        {"entry": "stale"},
        {"entry": "unknown"},
        {"child": False},
    ],
)
def test_a_young_session_ends_when_anything_else_is_amiss(what: dict[str, Any]) -> None:
    door = opened()
    door.look(SICK, SICK, SICK)
    assert door.look(replace(SICK, **what)) == ["shut"]
    assert (door.gate.phase, door.gate.kept) == ("closing", False)
    assert door.look(OURS, OURS, OURS) == ["shut"] * 3


def test_a_young_session_ends_when_its_time_is_over() -> None:
    door = opened()
    began = door.gate.session_at
    assert began is not None
    orders = door.look(*[SICK] * 40)
    assert orders == [""] * (orders.index("shut")) + ["shut"] * (40 - orders.index("shut"))
    assert door.now - 40 + orders.index("shut") + 1 == began + TIMING.open_at_least


def test_times_that_run_backwards_open_nothing_early_and_keep_nothing_open() -> None:
    door = opened()
    door.look(SICK, SICK, SICK)
    assert door.gate.kept
    door.now = -50.0
    assert door.look(SICK) == ["shut"]
    assert door.look(*[READY] * 60)[-1] == ""
    door.now = -1000.0
    assert door.look(*[READY] * 61) == [""] * 60 + ["open"]
    door.now = -2000.0
    assert door.look(replace(READY, child=True)) == ["shut"]


# A daemon that does not answer.


def test_a_door_stays_open_while_tailscaled_does_not_answer_for_as_long_as_the_agent_may_be_not_ready() -> None:
    door = opened()
    assert door.look(BLIND, BLIND) == ["", ""]
    assert (door.gate.phase, door.gate.overlay) == ("open", "unknown")
    assert door.gate.doubt == "tailscaled does not answer"
    assert policy.next_look(door.gate, "", TIMING) == TIMING.in_doubt
    assert door.look(OURS, BLIND, BLIND, BLIND) == ["", "", "", "shut"]
    assert (door.gate.phase, door.gate.kept) == ("closing", False)


def test_an_opening_waits_for_an_answer_only_so_long() -> None:
    assert opening().look(*[BLIND] * 16) == [""] * 14 + ["shut"] * 2


# The path from outside.


def test_a_door_that_the_internet_does_not_reach_is_degraded_until_it_does() -> None:
    door = opened()
    assert door.look(replace(DEAD, met="198.51.100.7: no answer")) == [""]
    assert (door.gate.phase, door.gate.why) == (
        "degraded",
        "the internet does not reach it: 198.51.100.7: no answer",
    )
    assert policy.lets_in(door.gate)
    assert door.phases(OURS, OURS) == ["degraded", "degraded"]
    assert door.look(ALIVE) == [""]
    assert (door.gate.phase, door.gate.why) == ("open", "the internet reaches it again")
    assert door.phases(DEAD, ALIVE, DEAD, ALIVE) == ["degraded", "open", "degraded", "open"]


def test_it_is_opened_anew_three_times_and_then_the_operator_is_told() -> None:
    door = opened()
    for repairs in (1, 2, 3):
        assert door.phases(*[DEAD] * (DEAD_VISITS - 1)) == ["degraded"] * (DEAD_VISITS - 1)
        assert door.look(DEAD) == ["shut"]
        assert (door.gate.phase, door.gate.repairs) == ("closing", repairs)
        assert door.gate.why == "the internet does not reach it; it is opened anew"
        assert door.look(*[READY] * 60, OURS) == [""] * 59 + ["open", ""]
        assert (door.gate.phase, door.gate.dead) == ("open", 0)
    assert door.phases(*[DEAD] * 5) == ["degraded"] * 5
    assert door.gate.why == "the internet does not reach it; it was opened anew 3 times in vain"
    assert door.gate.repair == "homelab-agent doctor gate"
    door.look(ALIVE)
    assert (door.gate.phase, door.gate.repairs, door.gate.repair) == ("open", 0, "")


@pytest.mark.parametrize(("wait", "closed_at_least", "expected"), [(90.0, 60.0, 90), (60.0, 120.0, 120)])
def test_a_repair_waits_at_least_as_long_as_any_door_that_shut(
    wait: float, closed_at_least: float, expected: int
) -> None:
    door = opened(Timing(path_repair_wait=wait, closed_at_least=closed_at_least))
    assert door.look(*[DEAD] * DEAD_VISITS)[-1] == "shut"
    assert door.look(*[READY] * expected) == [""] * (expected - 1) + ["open"]


def test_repairs_may_be_switched_off() -> None:
    door = opened(Timing(path_repairs=0))
    assert door.phases(*[DEAD] * 9) == ["degraded"] * 9
    assert (door.gate.why, door.gate.repair) == ("the internet does not reach it", "homelab-agent doctor gate")


def test_a_degraded_door_shuts_as_an_open_one_does_and_is_degraded_when_its_session_goes_on() -> None:
    door = opened()
    assert door.phases(DEAD, SICK, SICK, SICK) == ["degraded"] * 3 + ["closing"]
    assert door.phases(OURS, OURS, OURS, ALIVE) == ["closing", "closing", "degraded", "open"]


# When to look.


@pytest.mark.parametrize(
    ("gate", "order", "seconds"),
    [
        ({}, "", 5.0),
        ({"good": 1}, "", 1.0),
        ({"good": 2}, "", 1.0),
        ({"good": 3}, "", 5.0),
        ({"bad": 1}, "", 5.0),
        ({"phase": "opening"}, "open", 0.0),
        ({"phase": "opening", "good": 9}, "", 1.0),
        ({"phase": "open", "good": 9}, "", 5.0),
        ({"phase": "open", "bad": 1}, "", 1.0),
        ({"phase": "degraded", "good": 9, "dead": 9}, "", 5.0),
        ({"phase": "degraded", "blind": 2}, "", 1.0),
        ({"phase": "closing"}, "shut", 1.0),
        ({"phase": "closing", "kept": True}, "", 1.0),
        ({"phase": "closing", "blind": 2}, "shut", 1.0),
        ({"phase": "closing", "blind": 3}, "shut", 5.0),
        ({"phase": "closing", "tries": policy.PROMPT_TRIES}, "shut", 1.0),
        ({"phase": "closing", "tries": policy.PROMPT_TRIES + 1}, "shut", 5.0),
    ],
)
def test_it_is_looked_at_more_often_while_in_doubt(gate: dict[str, Any], order: Order, seconds: float) -> None:
    assert policy.next_look(Gate(**gate), order, TIMING) == seconds


def test_the_pace_is_the_configurations() -> None:
    assert Timing.of(GateSettings()) == Timing()
    assert Timing.of(GateSettings(rise=1, every=2.0, path_repairs=0)) == Timing(rise=1, every=2.0, path_repairs=0)
    door = Door(Timing(rise=1, fall=1, closed_at_least=0.0, open_at_least=0.0))
    assert door.look(READY, OURS, SICK, READY, READY) == ["open", "", "shut", "", "open"]
