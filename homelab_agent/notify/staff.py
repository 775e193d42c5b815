"""Runs what the configuration has at work now, each by itself: one that fails holds up no other and is begun again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock
from homelab_agent.core.errors import describe
from homelab_agent.core.health import Finding

AGAIN_SECONDS = 30.0

log = journal.logger("notify")


class Worker(Protocol):
    """One that is at work until it is cancelled: a courier, a heartbeat. `check` says how it goes."""

    @property
    def check(self) -> str:
        """The name of its check."""

    async def run(self) -> None:
        """Work until cancelled."""

    def finding(self) -> Finding:
        """Say how it goes."""


class Staff:
    """Those at work; `report` is told of one that fails."""

    def __init__(self, clock: Clock, report: Callable[[str, Finding], None]) -> None:
        self._clock = clock
        self._report = report
        self._wanted: Sequence[Worker] = ()
        self._changed = asyncio.Event()

    def employ(self, wanted: Sequence[Worker]) -> None:
        """Have these at work from now on: who is already goes on, who is no more is cancelled."""
        self._wanted = tuple(wanted)
        self._changed.set()

    async def run(self) -> None:
        """Have them work until cancelled."""
        at_work: dict[Worker, asyncio.Task[None]] = {}
        try:
            while True:
                self._changed.clear()
                await _end([at_work.pop(one) for one in [*at_work] if one not in self._wanted])
                for one in self._wanted:
                    if one not in at_work:
                        at_work[one] = asyncio.create_task(self._keep(one), name=one.check)
                await self._changed.wait()
        finally:
            await _end(at_work.values())

    async def _keep(self, worker: Worker) -> None:
        while True:
            try:
                await worker.run()
            except Exception as error:
                log.exception("notify.task_failed", task=worker.check)
                found = Finding.failed(f"it is begun again: {describe(error)}", "homelab-agent logs --explain")
                self._report(worker.check, found)
            await self._clock.sleep(AGAIN_SECONDS)
            self._report(worker.check, worker.finding())


async def _end(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
