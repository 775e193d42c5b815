"""When no samples were taken, and why: noted with the first one after, so that a chart can tell the causes apart.

What an agent that runs has missed it knows itself. How long there was none is known when PostgreSQL has all that the
one before had put on disk: the view `silence` makes that of the starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import homelab_agent
from homelab_agent.core.spool import Row
from homelab_agent.metrics.sample import Sample, Values
from homelab_agent.metrics.ticker import Tick

MISSING_FROM = 1.5
"""In intervals: samples that are further apart have had another between them."""


class Silences:
    """Makes the rows that go with a sample; it has to hear what became of each."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._last: datetime | None = None
        self._lost = False

    def before(self, sample: Sample, tick: Tick, interval: int) -> Sequence[Row]:
        """Return what is to be noted with a sample: a start with the first, or that some are missing before it."""
        if self._last is None:
            return [self._start(sample.at, tick, interval)]
        cause = _cause(tick, interval) or ("not kept" if self._lost else "")
        if cause and sample.at - self._last > MISSING_FROM * timedelta(seconds=interval):
            return [self._interruption(self._last, sample.at, cause)]
        return []

    def ended(self, sample: Sample, *, lost: bool) -> None:
        """Hear that a sample is in the spool, with what was to be noted, or that it is lost."""
        self._lost = lost
        if not lost:
            self._last = sample.at

    def _start(self, at: datetime, tick: Tick, interval: int) -> Row:
        values: Values = {
            "host": self._host,
            "time": at,
            "boot_at": at - timedelta(seconds=round(tick.at.boot)),
            "interval_s": interval,
            "version": homelab_agent.__version__,
        }
        return Row("agent_start", ("host", "time"), values, at)

    def _interruption(self, last: datetime, at: datetime, cause: str) -> Row:
        values: Values = {"host": self._host, "from_at": last, "to_at": at, "cause": cause}
        return Row("interruption", ("host", "from_at"), values, at)


def _cause(tick: Tick, interval: int) -> str:
    """Return why there is no sample of the time before a tick, "" where there is one."""
    if tick.drift.asleep >= interval:
        return "suspended"
    if tick.skipped:
        return "held up"
    return "clock set" if tick.drift.step >= interval else ""
