"""The change over: the shipper is held, both sides are counted, the configuration is written, then the agent follows.

Until the configuration is written nothing has happened: who is killed, or is told that both are not the same, goes on
with the old database, and what waited in the spool goes there. From then on the new one is the agent's.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from homelab_agent.core.errors import AgentError
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.jobs import Run
from homelab_agent.database.database import OTHER_REPAIR, Database
from homelab_agent.database.insert import quoted
from homelab_agent.database.moving.course import Cancelled, Course
from homelab_agent.database.moving.destination import Destination
from homelab_agent.database.moving.order import TO_BE_WRITTEN, Configuration, Order
from homelab_agent.database.moving.side import connected
from homelab_agent.database.shipper import Shipper

ROUNDS = 4
LOCK = "SET LOCAL lock_timeout = '10s'"
WRITE_SECONDS = 120.0
UP_SECONDS = 60.0
_LOOK_SECONDS = 0.5


class StillDiffers(AgentError):
    """{name} is not the same in both databases, though all of it was copied again."""

    repair = "see that nobody else changes rows of this host in the target, then the same command again"


class NotWritten(AgentError):
    """The configuration does not name the new database, so the agent goes on with the old one."""

    repair = "give the command again as who may write the configuration (sudo), or let the agent's user write it"


@dataclass(slots=True)
class Change:
    """One change over, from what `course` has copied from to where it has copied."""

    database: Database
    shipper: Shipper
    configuration: Configuration
    base: Foundation
    course: Course
    _was_embedded: bool = False

    async def over(self, run: Run, order: Order, to: Destination) -> tuple[float, int]:
        """Do it; return for how many seconds rows waited, and how many are the same in both.

        Raises `StillDiffers`, `NotWritten`, and what either database says; then nothing has changed.
        """
        self._was_embedded = self.database.is_embedded
        began = self._now()
        run.say("rows wait in the spool from now on")
        async with self.shipper.held("history is moved to another database"):
            async with self._unchanging():
                rows = await self._until_equal(run)
                await self._write(run, order)
            self.base.health.expect(
                ["database.connection"], "another database is taken into use", self._wall() + timedelta(seconds=30)
            )
            self.database.adopt(to.settings, to.embedded)
            with suppress(TimeoutError):
                async with asyncio.timeout(UP_SECONDS):
                    await self.database.wait_until_up()
        self.configuration.adopted(order.values)
        return self._now() - began, rows

    async def left_behind(self) -> str:
        """Return what to say of the embedded server's files, which nobody uses any more."""
        await self.database.stop_former()
        if not self._was_embedded:
            return ""
        directory = self.base.directory / "postgres"
        size = await asyncio.to_thread(_size, directory)
        return f"; the old one's files stay, {size / 2**20:.0f} MiB: rm -r {directory}"

    @asynccontextmanager
    async def _unchanging(self) -> AsyncIterator[None]:
        """Let nobody write into the old database: a lock that who reads does not notice."""
        names = sorted([*(t.name for t in self.course.source.records), *(s.name for s in self.course.source.series)])
        listed = ", ".join(f"ONLY homelab.{quoted(name)}" for name in names)
        async with connected(self.course.source.where, repair=OTHER_REPAIR) as guard, guard.connection.transaction():
            await guard.connection.execute(LOCK)
            await guard.connection.execute(f"LOCK TABLE {listed} IN SHARE MODE")
            yield

    async def _until_equal(self, run: Run) -> int:
        """Copy what is new since, until all counts agree; return how many rows both have."""
        for _ in range(ROUNDS):
            differences = await self.course.compare()
            await self.course.level(differences, lambda _rows, _name: None)
            held, other = await self.course.mirror()
            named = [one.stretch.name for one in differences if one.pieces]
            if not named and not other:
                run.say("both databases agree")
                return held + sum(one.held for one in differences)
        raise StillDiffers(name=", ".join(named[:5]) or "a table")

    async def _write(self, run: Run, order: Order) -> None:
        """Have the configuration name the new database: from here on there is no way back."""
        try:
            await self.configuration.write(order.values)
        except AgentError:
            run.say(TO_BE_WRITTEN)
            end = self._now() + WRITE_SECONDS
            while not await self.configuration.says(order.values):
                if run.cancelled.is_set():
                    raise Cancelled from None
                if self._now() > end:
                    raise NotWritten from None
                await self.base.clock.sleep(_LOOK_SECONDS)
        if not await self.configuration.says(order.values):
            raise NotWritten

    def _now(self) -> float:
        return self.base.clock.read().monotonic

    def _wall(self) -> datetime:
        return self.base.clock.read().wall


def _size(directory: Path) -> int:
    """Return the bytes of all files below a directory, as far as we may look."""
    total = 0
    for path, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(path, name)).st_blocks * 512  # noqa: PTH118
    return total
