"""Rollups on whichever edition there is: made at the start, kept up by a job each hour, dropped by one each day."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from homelab_agent.core import journal, timekeeping
from homelab_agent.core.clock import Clock
from homelab_agent.core.errors import AgentError, NeighbourUnreachable, describe
from homelab_agent.core.jobs import Outcome, Run
from homelab_agent.database.database import Database, backoff
from homelab_agent.database.editions import TIMESCALE
from homelab_agent.database.pool import Connection
from homelab_agent.database.rollups import expiry, plain, series, timescale
from homelab_agent.database.rollups.keep import Keep

log = journal.logger("database")

_BELIEVED = timedelta(days=3)
"""What is done each hour, or each day, was last done not longer ago, if the clock is right and the host was on."""
_NEWEST = "SELECT max(until) FROM homelab.rollup"


class ClockInDoubt(AgentError):
    """By the clock {days} days have passed since samples were last rolled up, and nothing keeps the clock right."""

    repair = "timedatectl set-ntp true; where the time is right: homelab-agent jobs run database.rollups"


@dataclass(slots=True)
class Rollups:
    """The rollups of all series; `keep` says how long what is kept."""

    database: Database
    clock: Clock
    keep: Keep

    async def start(self) -> None:
        """Have all be made, and kept for as long as is wanted, as soon as PostgreSQL is reached; then wait for ever."""
        failures = 0
        while True:
            await self.database.wait_until_up()
            try:
                await self.make()
                break
            except (NeighbourUnreachable, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                failures += 1
                log.warning("database.rollups_not_made", cause=describe(error))
                await self.clock.sleep(backoff(failures))
        await asyncio.Event().wait()

    async def make(self, *, vouched: bool = False) -> None:
        """Make what is missing for any series; on TimescaleDB, have its policies be what is wanted.

        `vouched` says that somebody has said that the clock is right.
        """
        async with self.database.acquire() as connection:
            known = await self._series(connection)
            edition = timescale if self._is_timescale else plain
            there = await series.relations(connection)
            for each in known:
                await edition.make(connection, each, there)
            if self._is_timescale:
                if vouched or await self._doubt(connection) is None:
                    for each in known:
                        await timescale.refresh(connection, each, self.keep, self.clock.read().wall)
                await timescale.adopt(connection, known, self.keep)

    async def roll(self, run: Run) -> Outcome:
        """Bring every series' rollups up to now; where the time is in doubt, only for who asks for it."""
        vouched = run.trigger == "command"
        await self.make(vouched=vouched)
        async with self.database.acquire() as connection:
            if not vouched and (doubt := await self._doubt(connection)) is not None:
                return Outcome(ok=False, detail=str(doubt), repair=doubt.repair)
        if self._is_timescale:
            return await self._made_up()
        count = 0
        async with self.database.acquire() as connection:
            for each in await self._series(connection):
                if run.cancelled.is_set():
                    return Outcome(ok=False, detail=f"cancelled; {count} series rolled up")
                await plain.keep_up(connection, each, self.clock.read().wall)
                count += 1
        return Outcome(ok=True, detail=f"{count} series rolled up")

    async def expire(self) -> str:
        """Drop what is older than it is to be kept, where PostgreSQL does not by itself; return what was, in words."""
        gone: list[str] = []
        async with self.database.acquire() as connection:
            if (doubt := await self._doubt(connection)) is not None:
                return f"nothing was dropped: {doubt}"
            await expiry.forget_findings(connection, self.clock.read().wall - self.keep.hours)
            if self._is_timescale:
                return "TimescaleDB drops what is old"
            for each in await self._series(connection):
                gone += await expiry.expire(connection, each, self.keep, self.clock.read().wall)
        return f"{len(gone)} months dropped" if gone else "no month is old enough to be dropped"

    async def _doubt(self, connection: Connection) -> ClockInDoubt | None:
        """Return why the time is not to be believed: what is dropped or settled by it does not come back."""
        newest: datetime | None = await connection.fetchval(_NEWEST)
        passed = self.clock.read().wall - newest if newest is not None else timedelta()
        return ClockInDoubt(days=passed.days) if passed > _BELIEVED and not timekeeping.synchronised() else None

    async def _made_up(self) -> Outcome:
        async with self.database.acquire() as connection:
            failed, still = await timescale.make_up(connection)
        if still:
            repair = "homelab-agent db psql -c 'SELECT * FROM timescaledb_information.job_errors'"
            return Outcome(ok=False, detail=f"{still} of TimescaleDB's policies fail", repair=repair)
        made_up = f"; {failed} that had failed in its background were run from here" if failed else ""
        return Outcome(ok=True, detail=f"TimescaleDB's policies do it{made_up}")

    async def _series(self, connection: Connection) -> list[series.Series]:
        return await series.read(connection, TIMESCALE if self._is_timescale else "")

    @property
    def _is_timescale(self) -> bool:
        return self.database.edition is not None and self.database.edition.name == TIMESCALE
