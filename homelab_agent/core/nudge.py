"""A sleep that somebody else can end: what waits for long takes notice of new settings at once."""

from __future__ import annotations

import asyncio

from homelab_agent.core.clock import Clock
from homelab_agent.core.waiting import all_done


class Nudge:
    """`sleep` as the clock does; `give` wakes who sleeps, and means nothing while nobody does."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sleepers: set[asyncio.Future[None]] = set()

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` of monotonic time, or until a nudge is given."""
        nudged = asyncio.get_running_loop().create_future()
        self._sleepers.add(nudged)
        try:
            await all_done([nudged], self._clock, within=seconds)
        finally:
            self._sleepers.discard(nudged)

    def give(self) -> None:
        """Wake who sleeps now."""
        for nudged in self._sleepers:
            if not nudged.done():
                nudged.set_result(None)
