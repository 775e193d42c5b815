"""Feeds systemd's watchdog while the agent does its work, and lets it bite when not.

A loop that hangs feeds nothing, as the beat runs on it. What else must hold is asked at each beat.
"""

from __future__ import annotations

from collections.abc import Callable

from homelab_agent.core import journal, systemd
from homelab_agent.core.clock import Clock, about
from homelab_agent.core.supervisor.looplag import LoopLag

log = journal.logger("watchdog")


def hunger(*, lag: float, longest_lag: float, neglected: str) -> str:
    """Return why the watchdog is not to be fed, "" when it is. `lag` and `longest_lag` in seconds."""
    return f"the event loop is {lag:.1f} s late" if lag > longest_lag else neglected


class Watchdog:
    """The beat, about three times within systemd's limit."""

    def __init__(self, clock: Clock, *, limit: float, lag: LoopLag, neglected: Callable[[], str]) -> None:
        """`limit` is WatchdogSec in seconds (`systemd.watchdog_interval()`).

        `neglected` says what the agent does not do of what it is for (`duty.neglected`).
        """
        self._clock = clock
        self._every = limit / 3
        self._lag = lag
        self._neglected = neglected
        self._reason = ""

    async def run(self) -> None:
        """Beat until cancelled; the limit counts from the start, so the first beat is when all has been asked once."""
        while True:
            await self._clock.sleep(about(self._clock.read(), self._every))
            self._beat()

    def _beat(self) -> None:
        lag = self._lag.worst(within=self._every)
        reason = hunger(lag=lag, longest_lag=self._every, neglected=self._neglected())
        if not reason:
            systemd.notify(WATCHDOG=1)
        if reason and reason != self._reason:
            log.error("watchdog.withheld", cause=reason)
        elif self._reason and not reason:
            log.info("watchdog.fed_again")
        self._reason = reason
