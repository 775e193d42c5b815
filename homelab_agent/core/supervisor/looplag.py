"""How late the event loop is: what keeps it busy at a stretch, or from running, shows here.

The loop itself is measured where it begins and ends to wait, so that nothing that blocks it is missed and nothing is
woken to look for it.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections import deque
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Gauge

from homelab_agent.core.clock import Clock
from homelab_agent.core.health import Check, Finding

KEPT_SECONDS = 60.0
NOTED_SECONDS = 0.01
"""Less than this is nothing to anybody."""

LATE_SECONDS = 2.0
"""So late, what should be done at once is not: nobody is let in from the internet by a host that is held up so long."""

CALM_SECONDS = 10.0
"""So long after the last time it counts as over."""


class LoopLag:
    """Remembers for a minute by how many seconds whatever was due had to wait for the loop.

    `on_late` is called in the loop that is measured, with what is found, as soon as it was later than `LATE_SECONDS`.
    """

    def __init__(self, clock: Clock) -> None:
        self.on_late: Callable[[Finding], None] = lambda _: None
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._noted: deque[tuple[float, float]] = deque()

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Return an event loop that is measured."""
        self._loop = asyncio.SelectorEventLoop(_Measured(self))
        return self._loop

    def checks(self) -> Sequence[Check]:
        """Return the check "event_loop"; the gate needs it, for who comes in is to be answered."""
        return [Check("event_loop", self._probe, blocks=frozenset({"gate"}))]

    def worst(self, within: float = KEPT_SECONDS) -> float:
        """Return the worst of the last `within` seconds, at most a minute."""
        earliest = self._clock.read().monotonic - within
        return max((seconds for ended, seconds in self._noted if ended > earliest), default=0.0)

    def note(self, seconds: float) -> None:
        """Take a measurement that ends now."""
        if seconds < NOTED_SECONDS:
            return
        now = self._clock.read().monotonic
        while self._noted and self._noted[0][0] <= now - KEPT_SECONDS:
            self._noted.popleft()
        self._noted.append((now, seconds))
        if seconds > LATE_SECONDS and self._loop is not None:
            # The loop may be about to wait: only what comes from outside keeps it from that.
            self._loop.call_soon_threadsafe(self.on_late, _held_up(seconds))

    def register(self, registry: CollectorRegistry) -> None:
        """Show the worst of the last minute on `GET /metrics`."""
        gauge = Gauge(
            "homelab_agent_event_loop_lag_seconds",
            "How late the event loop was, worst of a minute.",
            registry=registry,
        )
        gauge.set_function(self.worst)

    async def _probe(self) -> Finding:
        worst = self.worst(within=CALM_SECONDS)
        return _held_up(worst) if worst > LATE_SECONDS else Finding.ok("what is due is done at once")


def _held_up(seconds: float) -> Finding:
    return Finding.failed(f"the agent was held up for {seconds:.0f} s", "Find what keeps this host busy: top; iostat")


class _Measured(selectors.DefaultSelector):
    """Where the loop waits: between two waits it is busy, and a wait that lasts too long is a process held up."""

    def __init__(self, lag: LoopLag) -> None:
        super().__init__()
        self._lag = lag
        self._returned = time.monotonic()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        begun = time.monotonic()
        self._lag.note(begun - self._returned)
        events: list[tuple[selectors.SelectorKey, int]] = super().select(timeout)
        self._returned = time.monotonic()
        if timeout is not None:
            self._lag.note(self._returned - begun - max(timeout, 0.0))
        return events
