"""How far a run is, over all its sources."""

from __future__ import annotations

from homelab_agent.core.clock import Clock
from homelab_agent.core.jobs import Run


class Advance:
    """Tells the progress of a run, of which each source says how far it is there."""

    def __init__(self, run: Run, clock: Clock) -> None:
        self._run = run
        self._clock = clock
        self._began = clock.read().monotonic
        self._far: dict[str, tuple[int, int | None]] = {}

    def tell(self, source: str, done: int, total: int | None) -> None:
        """Say that so many documents of a source are done, of so many (None: it does not say)."""
        self._far[source] = done, total
        done = sum(each for each, _ in self._far.values())
        totals = [each for _, each in self._far.values() if each is not None]
        whole = sum(totals) if len(totals) == len(self._far) else None
        rate = done / max(self._clock.read().monotonic - self._began, 0.001)
        left = "" if whole is None else f", about {max(whole - done, 0) / max(rate, 0.001):.0f} s left"
        self._run.progress(done, whole, "documents", f"of {', '.join(self._far)}, {rate:.0f}/s{left}")
