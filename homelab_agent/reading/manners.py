"""How somebody else's server is asked: not too often, not while it wants to be left alone, and by our name."""

from __future__ import annotations

import email.utils
from dataclasses import dataclass, field
from datetime import UTC, datetime

from homelab_agent import __version__
from homelab_agent.core.clock import Clock

USER_AGENT = f"homelab-agent/{__version__} (reading sync of a home server)"

FAILURES_MAX = 5
OPEN_SECONDS = 900.0
"""After so many failures in a row a server is not asked for so long."""


@dataclass(slots=True)
class Manners:
    """Says when a server may be asked again; `rate` in requests per second."""

    clock: Clock
    rate: float
    _next: float = field(default=float("-inf"), init=False)
    _failures: int = field(default=0, init=False)

    def wait(self) -> float:
        """Return for how many seconds it must not be asked yet."""
        return max(0.0, self._next - self.clock.read().monotonic)

    def asked(self) -> None:
        """Say that it is asked now."""
        self._next = self.clock.read().monotonic + 1 / self.rate

    def answered(self) -> None:
        """Say that it answered well."""
        self._failures = 0

    def failed(self) -> None:
        """Say that it did not; too often in a row, and it is left alone (a circuit breaker)."""
        self._failures += 1
        if self._failures >= FAILURES_MAX:
            self.leave_alone(OPEN_SECONDS)
            self._failures = 0

    def leave_alone(self, seconds: float) -> None:
        """Ask it no more for so long."""
        self._next = max(self._next, self.clock.read().monotonic + seconds)


def retry_after(header: str, now: datetime) -> float | None:
    """Return for how many seconds a server wants to be left alone; None where it does not say so in a way we know.

    Both forms of RFC 9110, section 10.2.3: seconds, or a date.
    """
    text = header.strip()
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return float(text)
    date = http_date(text)
    return None if date is None else max(0.0, (date - now).total_seconds())


def http_date(header: str) -> datetime | None:
    """Return a time as servers say it (RFC 9110, section 5.6.7); None where it is none."""
    try:
        date = email.utils.parsedate_to_datetime(header)
        return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
