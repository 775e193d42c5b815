"""How late the event loop is: what blocks it shows here."""

from __future__ import annotations

from collections import deque

from prometheus_client import CollectorRegistry, Gauge

from homelab_agent.core.clock import Clock

EVERY_SECONDS = 2.0
KEPT = 30


class LoopLag:
    """Measures, every 2 s, by how much a sleep takes longer than asked; in seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = deque([0.0], maxlen=KEPT)

    @property
    def current(self) -> float:
        """The last measurement."""
        return self._last[-1]

    @property
    def maximum(self) -> float:
        """The worst of the last minute."""
        return max(self._last)

    def register(self, registry: CollectorRegistry) -> None:
        """Show the worst of the last minute on `GET /metrics`."""
        gauge = Gauge(
            "homelab_agent_event_loop_lag_seconds",
            "How late the event loop was, worst of a minute.",
            registry=registry,
        )
        gauge.set_function(lambda: self.maximum)

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            begun = self._clock.read().monotonic
            await self._clock.sleep(EVERY_SECONDS)
            self._last.append(max(0.0, self._clock.read().monotonic - begun - EVERY_SECONDS))
