"""A task's heartbeat: the watchdog is fed only while those that matter beat."""

from __future__ import annotations

from homelab_agent.core.clock import Clock


class Pulse:
    """Beaten by a task at each turn; more than `within` seconds (monotonic) without, and it is stuck."""

    def __init__(self, clock: Clock, name: str, *, within: float) -> None:
        self.name = name
        self.within = within
        self._clock = clock
        self._last = clock.read().monotonic

    def beat(self) -> None:
        """Say that the task turns."""
        self._last = self._clock.read().monotonic

    def silence(self) -> float:
        """Return the seconds since the last beat."""
        return self._clock.read().monotonic - self._last

    @property
    def beats(self) -> bool:
        """Whether the last beat is recent enough."""
        return self.silence() <= self.within
