"""Readiness that flaps, a daemon that fails, operators, times that jump: who is let in, and that it ends well.

What is decided is carried out on a tailscaled that is only thought of; it starts, publishes and ends what it is asked
to, or does not.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from homelab_agent.gate import policy
from homelab_agent.gate.intent import Hold
from homelab_agent.gate.policy import Gate, Seen, Timing
from homelab_agent.gate.prerequisites import Obstacle
from homelab_agent.gate.reading import Presence

HOLD = Hold("ann", "an upgrade", datetime(2026, 11, 28, tzinfo=UTC), None)
MISSING = Obstacle("this node is logged out of its tailnet", "sudo tailscale up")
timings = st.builds(
    Timing,
    rise=st.integers(1, 4),
    fall=st.integers(1, 4),
    open_at_least=st.sampled_from([0.0, 7.0, 30.0]),
    closed_at_least=st.sampled_from([0.0, 10.0, 60.0]),
    opening_at_most=st.sampled_from([3.0, 15.0]),
    path_repair_wait=st.sampled_from([5.0, 60.0]),
    path_repairs=st.integers(0, 3),
)


class World:
    """The agent, its child, tailscaled and what it publishes on the port."""

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self.gate = Gate()
        self.now = 1000.0
        self.ready = False
        self.urgent = False
        self.held = False
        self.missing = False
        self.path: bool | None = None
        self.child = False
        self.published = False
        self.left = False
        self.foreign = False
        self.answers = True
        self.starts = True
        self.publishes = True
        self.removes = True
        # What was seen and done, for the judge.
        self.good = self.bad = self.blind = 0
        self.has_session = False
        self.shut_at: float | None = None
        self.readings_since_open: list[Presence] = ["none"]

    @property
    def entry(self) -> Presence:
        if not self.answers:
            return "unknown"
        if self.foreign:
            return "foreign"
        if self.left:
            return "stale"
        if self.published:
            return "ours" if self.child else "leftover"
        return "none"

    def look(self) -> float:
        """Look once, judge what is decided, do it; return when to look again."""
        seen = Seen(
            now=self.now,
            ready=self.ready,
            entry=self.entry,
            child=self.child,
            urgent="the agent stops" if self.urgent else "",
            hold=HOLD if self.held else None,
            obstacle=MISSING if self.missing and self.answers else None,
            path=self.path,
        )
        self.path = None
        self.count(seen)
        before, (self.gate, order) = self.gate, policy.step(self.gate, seen, self.timing)
        self.judge(before, seen)
        if order == "open":
            self.open(seen)
        elif order == "shut":
            self.shut()
        assert (order == "shut") == (self.gate.phase == "closing" and not self.gate.kept)
        wait = policy.next_look(self.gate, order, self.timing)
        assert wait > 0 or order == "open"
        return wait

    def count(self, seen: Seen) -> None:
        is_ready = seen.ready and not seen.urgent
        self.good, self.bad = (self.good + 1, 0) if is_ready else (0, self.bad + 1)
        self.blind = self.blind + 1 if seen.entry == "unknown" else 0
        self.readings_since_open.append(seen.entry)

    def open(self, seen: Seen) -> None:
        """Begin a session; there is no other, and there was none at this look."""
        assert (seen.entry, seen.child) == ("none", False)
        assert not self.has_session or "none" in self.readings_since_open
        assert self.good >= self.timing.rise
        if self.shut_at is not None:
            assert self.now - self.shut_at >= self.timing.closed_at_least
        self.has_session, self.readings_since_open = True, []
        if self.starts:
            self.child = True
            self.published = self.publishes

    def shut(self) -> None:
        if self.child and self.removes:
            self.child = self.published = False
        if not self.child:
            self.left = self.left and not (self.removes and self.answers)

    def judge(self, before: Gate, seen: Seen) -> None:
        if policy.lets_in(before) and not policy.lets_in(self.gate):
            self.shut_at = self.now
        if (before.phase, self.gate.phase) == ("closing", "closed"):
            assert not seen.child
            assert seen.entry in {"none", "foreign"}
        if not policy.lets_in(self.gate):
            return
        assert self.bad < self.timing.fall
        assert self.blind < self.timing.fall
        assert seen.child
        assert seen.entry in {"ours", "unknown"}
        assert not seen.urgent
        assert seen.hold is None
        assert seen.obstacle is None
        if not policy.lets_in(before):
            assert self.good >= self.timing.rise
            assert seen.entry == "ours"

    def go_on(self, looks: int) -> None:
        for _ in range(looks):
            wait = self.look()
            self.now += wait

    def heal(self) -> None:
        """Let all that is outside be as it should be."""
        self.urgent = self.held = self.missing = self.left = self.foreign = False
        self.answers = self.starts = self.publishes = self.removes = True
        self.published = self.child and self.published

    def patience(self) -> int:
        """Return after how many looks whatever is waited for has come about."""
        return 20 + round(sum((self.timing.open_at_least, self.timing.closed_at_least, self.timing.path_repair_wait)))


class Machine(RuleBasedStateMachine):
    """Rules are what happens, and looks."""

    world: World

    @initialize(timing=timings, left=st.booleans(), foreign=st.booleans())
    def begin(self, timing: Timing, left: bool, foreign: bool) -> None:  # noqa: FBT001
        self.world = World(timing)
        self.world.left, self.world.foreign = left, foreign

    @rule(looks=st.integers(1, 8))
    def look(self, looks: int) -> None:
        self.world.go_on(looks)

    @rule(readiness=st.lists(st.booleans(), min_size=1, max_size=12))
    def flap(self, readiness: list[bool]) -> None:
        for self.world.ready in readiness:
            self.world.go_on(1)

    @rule()
    def get_well(self) -> None:
        """Let everything be well for as long as it takes to open."""
        self.world.heal()
        self.world.ready = True
        self.world.go_on(self.world.patience())
        assert policy.lets_in(self.world.gate)

    @rule(ready=st.booleans(), urgent=st.booleans())
    def change_the_agent(self, ready: bool, urgent: bool) -> None:  # noqa: FBT001
        self.world.ready, self.world.urgent = ready, urgent

    @rule(held=st.booleans(), missing=st.booleans())
    def change_what_is_wanted(self, held: bool, missing: bool) -> None:  # noqa: FBT001
        self.world.held, self.world.missing = held, missing

    @rule(left=st.booleans(), foreign=st.booleans())
    def publish_beside_us(self, left: bool, foreign: bool) -> None:  # noqa: FBT001
        self.world.left, self.world.foreign = left, foreign

    @rule(answers=st.booleans(), starts=st.booleans(), publishes=st.booleans(), removes=st.booleans())
    def change_tailscaled(self, answers: bool, starts: bool, publishes: bool, removes: bool) -> None:  # noqa: FBT001
        world = self.world
        world.answers, world.starts, world.publishes, world.removes = answers, starts, publishes, removes

    @rule(looks=st.integers(1, 6))
    def hang(self, looks: int) -> None:
        """Let tailscaled not answer for a while, and nothing else happen."""
        self.world.answers = False
        self.world.go_on(looks)
        self.world.answers = True

    @rule()
    def kill_the_child(self) -> None:
        self.world.child = self.world.published = False

    @rule(looks=st.integers(0, 4))
    def kill_the_child_unheard(self, looks: int) -> None:
        """Let tailscaled take back what it published only a little later."""
        self.world.child = False
        self.world.go_on(looks)
        self.world.published = False

    @rule()
    def forget_what_is_published(self) -> None:
        """A restart, a `reset` or a `logout`: the child may live on."""
        self.world.published = self.world.left = False

    @rule()
    def publish_late(self) -> None:
        self.world.published = self.world.child

    @rule(alive=st.booleans())
    def visit(self, alive: bool) -> None:  # noqa: FBT001
        self.world.path = alive

    @rule(seconds=st.sampled_from([0.5, 5.0, 40.0, 3600.0, 1e9]))
    def jump(self, seconds: float) -> None:
        self.world.now += seconds

    @rule(seconds=st.sampled_from([0.5, 40.0, 1e9]))
    def jump_back(self, seconds: float) -> None:
        """No monotonic clock does; nobody is let in for it all the same. What was shut waits anew."""
        self.world.now -= seconds
        self.world.shut_at = None

    def teardown(self) -> None:
        """Whatever has happened: not ready it shuts, ready it opens."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.ready = False
        world.go_on(world.timing.fall)
        assert not policy.lets_in(world.gate)
        world.answers = world.removes = True
        world.foreign = False
        world.go_on(world.patience())
        assert not world.child
        assert (world.gate.phase, world.entry) == ("closed", "none"), world.gate
        world.heal()
        world.ready = True
        world.go_on(world.patience())
        assert policy.lets_in(world.gate), world.gate


TestMachine = Machine.TestCase
TestMachine.settings = settings(deadline=None, max_examples=200, stateful_step_count=40, print_blob=True)

FOR_LONG = {"settings": settings(TestMachine.settings, max_examples=5_000, stateful_step_count=80)}
TestMachineForLong = pytest.mark.soak(type("TestMachineForLong", (Machine.TestCase,), FOR_LONG))
