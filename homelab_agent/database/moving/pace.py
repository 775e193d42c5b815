"""How far a copy is, and how fast: for who follows the run."""

from __future__ import annotations

from dataclasses import dataclass, field

from homelab_agent.core.clock import Clock
from homelab_agent.core.jobs import Run

SAY_SECONDS = 30.0


@dataclass(slots=True)
class Pace:
    """`done` of `total` rows since it began; `found` were there before."""

    run: Run
    clock: Clock
    total: int
    found: int
    done: int = 0
    _began: float = field(init=False)
    _said: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self._said = self.clock.read().monotonic

    def piece(self, rows: int, name: str) -> None:
        """Tell that a piece has been copied."""
        self.done += rows
        now = self.clock.read().monotonic
        note = f"{name}, {self.rate:,.0f} rows/s, {lasts(self._left)} left"
        self.run.progress(self.done, max(self.total, self.done), "rows", note)
        if now - self._said >= SAY_SECONDS:
            self._said = now
            self.run.say(f"{self.done:,} of {self.total:,} rows: {note}")

    @property
    def rate(self) -> float:
        """Rows in a second."""
        return self.done / max(self.clock.read().monotonic - self._began, 1e-3)

    @property
    def _left(self) -> float:
        return max(self.total - self.done, 0) / max(self.rate, 1e-3)


def lasts(seconds: float) -> str:
    """Return a duration as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
