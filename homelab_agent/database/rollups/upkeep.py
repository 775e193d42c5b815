"""Rollups on whichever edition there is: made at the start, kept up by a job each hour, dropped by one each day."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import asyncpg

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock
from homelab_agent.core.errors import NeighbourUnreachable, describe
from homelab_agent.core.jobs import Outcome, Run
from homelab_agent.database.database import Database, backoff
from homelab_agent.database.editions import TIMESCALE
from homelab_agent.database.pool import Connection
from homelab_agent.database.rollups import expiry, plain, series, timescale
from homelab_agent.database.rollups.keep import Keep

log = journal.logger("database")


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

    async def make(self) -> None:
        """Make what is missing for any series; on TimescaleDB, have its policies be what is wanted."""
        async with self.database.acquire() as connection:
            known = await self._series(connection)
            edition = timescale if self._is_timescale else plain
            there = await series.relations(connection)
            for each in known:
                await edition.make(connection, each, there)
            if self._is_timescale:
                for each in known:
                    await timescale.refresh(connection, each, self.keep, self.clock.read().wall)
                await timescale.adopt(connection, known, self.keep)

    async def roll(self, run: Run) -> Outcome:
        """Bring every series' rollups up to now."""
        await self.make()
        if self._is_timescale:
            return await self._made_up()
        count = 0
        async with self.database.acquire() as connection:
            for each in await self._series(connection):
                if run.cancelled.is_set():
                    return Outcome(ok=False, detail=f"cancelled; {count} series rolled up")
                now = self.clock.read().wall
                await plain.roll(connection, each, now, minutes=await plain.are_coarser(connection, each, now))
                count += 1
        return Outcome(ok=True, detail=f"{count} series rolled up")

    async def expire(self) -> str:
        """Drop what is older than it is to be kept, where PostgreSQL does not by itself; return what was, in words."""
        if self._is_timescale:
            return "TimescaleDB drops what is old"
        gone: list[str] = []
        async with self.database.acquire() as connection:
            for each in await self._series(connection):
                gone += await expiry.expire(connection, each, self.keep, self.clock.read().wall)
        return f"{len(gone)} months dropped" if gone else "no month is old enough to be dropped"

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
