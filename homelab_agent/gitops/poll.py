"""Looks at the remotes from time to time: for what a lost webhook missed, and for working copies that drifted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from functools import partial

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock, about
from homelab_agent.core.jobs.run import Trigger
from homelab_agent.core.state import StateUnavailable
from homelab_agent.gitops.deployment import Deployment
from homelab_agent.gitops.status import Status

_JITTER = 0.1
"""Part of the interval by which a pause is longer or shorter: not all hosts ask a forge at once."""

log = journal.logger("gitops")


class Poll:
    """Looks at each repository when it starts, then about every `interval` seconds."""

    def __init__(
        self,
        deployments: Mapping[str, Deployment],
        status: Status,
        clock: Clock,
        *,
        interval: float,
        at_once: int,
        is_busy: Callable[[str], bool],
        wake: Callable[[str, Trigger], None],
    ) -> None:
        """`at_once` are looked at at the same time; one that `is_busy` is left alone."""
        self._deployments = deployments
        self._status = status
        self._clock = clock
        self._interval = interval
        self._places = asyncio.Semaphore(at_once)  # its own: where a remote hangs, only pushes to that one wait
        self._is_busy = is_busy
        self._wake = wake

    async def run(self) -> None:
        """Look until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name in self._deployments:
                group.create_task(self._repeat(name), name=f"gitops.poll {name}")

    async def look(self, name: str, trigger: Trigger = "schedule") -> None:
        """Look at one repository now, and have it synced if there is news."""
        async with self._places:
            if self._is_busy(name):
                return
            try:
                planned, is_news = await self._deployments[name].look()
            except StateUnavailable as error:
                log.warning("gitops.held_up", error=error)
                return
        if not self._is_busy(name):
            self._status.looked(name, planned)
        if is_news:
            log.info("gitops.news", repository=name, sha=planned.target, trigger=trigger)
            self._wake(name, trigger)

    async def _repeat(self, name: str) -> None:
        look = partial(self.look, name)
        await look("catch-up")
        while True:
            pause = self._interval * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret
            await self._clock.sleep(about(self._clock.read(), pause))
            await look("schedule")
