"""Feeds systemd's watchdog while the agent does its work, and lets it bite when not.

A loop that hangs feeds nothing, as the beat runs on it. What else must hold is asked at each beat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from homelab_agent.core import journal, systemd
from homelab_agent.core.clock import Clock, about
from homelab_agent.core.pulse import Pulse
from homelab_agent.core.supervisor.looplag import LoopLag

log = journal.logger("watchdog")


def hunger(*, lag: float, longest_lag: float, silent: Sequence[str], truth: bool) -> str:
    """Return why the watchdog is not to be fed, "" when it is. `lag` and `longest_lag` in seconds."""
    if lag > longest_lag:
        return f"the event loop is {lag:.1f} s late"
    if silent:
        return f"no heartbeat of {', '.join(silent)}"
    if not truth:
        return "the last due sample was not taken"
    return ""


class Watchdog:
    """The beat, about three times within systemd's limit."""

    def __init__(
        self,
        clock: Clock,
        *,
        limit: float,
        lag: LoopLag,
        pulses: Sequence[Pulse],
        truth: Callable[[], bool],
    ) -> None:
        """`limit` is WatchdogSec in seconds (`systemd.watchdog_interval()`).

        `truth` says whether the agent does what it is for: the last due sample was stored, spooled, or its
        loss counted.
        """
        self._clock = clock
        self._every = limit / 3
        self._lag = lag
        self._pulses = pulses
        self._truth = truth
        self._reason = ""

    async def run(self) -> None:
        """Beat until cancelled; the limit counts from the start, so the first beat is when all has been asked once."""
        while True:
            await self._clock.sleep(about(self._clock.read(), self._every))
            self._beat()

    def _beat(self) -> None:
        reason = hunger(
            lag=self._lag.worst(within=self._every),
            longest_lag=self._every,
            silent=[pulse.name for pulse in self._pulses if not pulse.beats],
            truth=self._truth(),
        )
        if not reason:
            systemd.notify(WATCHDOG=1)
        if reason and reason != self._reason:
            log.error("watchdog.withheld", cause=reason)
        elif self._reason and not reason:
            log.info("watchdog.fed_again")
        self._reason = reason
