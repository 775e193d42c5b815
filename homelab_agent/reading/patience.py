"""How long an outage in the middle of a run is waited for, and how often it is tried again meanwhile."""

from __future__ import annotations

import asyncio
import random

from homelab_agent.core import waiting
from homelab_agent.core.clock import Clock

_LONGEST_SECONDS = 15.0


class Patience:
    """Lasts `seconds` from the first failure; what succeeds renews it."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._since: float | None = None
        self._failures = 0

    def renew(self) -> None:
        """Say that it goes on."""
        self._since, self._failures = None, 0

    async def wait(self, cancelled: asyncio.Event) -> bool:
        """Wait before another try; return whether there is to be one.

        Full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
        """
        now = self._clock.read().monotonic
        self._since = now if self._since is None else self._since
        if now - self._since >= self._seconds or cancelled.is_set():
            return False
        self._failures += 1
        pause = random.uniform(0.1, min(_LONGEST_SECONDS, 0.5 * 2.0 ** min(self._failures, 6)))  # noqa: S311
        return not await waiting.is_set(cancelled, self._clock, within=pause)
