"""How fast interfaces were, by the totals that somebody else has noted one after the other: pure.

How far apart two readings should be nobody has noted; it is taken from those before.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from homelab_agent.metrics import rates
from homelab_agent.metrics.rates import LONGEST_IN_INTERVALS, UNKNOWN, Growth

REMEMBERED = 15
LONGEST_SECONDS = 3600 * LONGEST_IN_INTERVALS
"""As with the longest interval that the agent takes."""


@dataclass(slots=True)
class Traffic:
    """One host's interfaces as they were read last: when, their totals, and how far apart the last readings were."""

    at: datetime | None = None
    totals: Mapping[str, Sequence[int]] | None = None
    apart: Sequence[float] = ()

    def observe(self, totals: Mapping[str, Sequence[int]], at: datetime) -> Mapping[str, Growth]:
        """Take a reading; return how each interface's totals grew since the one before."""
        before, self.totals = self.totals or {}, totals
        seconds = (at - self.at).total_seconds() if self.at is not None else 0.0
        self.at = at
        if seconds > 0:
            self.apart = [*self.apart, seconds][-REMEMBERED:]
        usual = statistics.median(self.apart) if self.apart else 0.0
        longest = min(usual * LONGEST_IN_INTERVALS, LONGEST_SECONDS)
        return {
            name: UNKNOWN if name not in before else rates.growth(before[name], now, seconds, longest=longest)
            for name, now in totals.items()
        }

    def document(self) -> Mapping[str, Any]:
        """Return it as JSON may hold it."""
        return {
            "at": self.at.isoformat() if self.at else None,
            "totals": self.totals,
            "apart": list(self.apart),
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Traffic:
        """Return what was written down."""
        at = document["at"]
        return cls(datetime.fromisoformat(at) if at else None, document["totals"], document["apart"])
