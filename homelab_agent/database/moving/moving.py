"""The job `database.move`: copies while the agent works, holds the shipper for the last of it, and changes over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import asyncpg

from homelab_agent.core import journal
from homelab_agent.core.errors import AgentError, describe
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.jobs import Outcome, Run
from homelab_agent.core.uuid7 import uuid7
from homelab_agent.database import pool
from homelab_agent.database.address import Address
from homelab_agent.database.database import OTHER_REPAIR, Database, backoff
from homelab_agent.database.moving import plan, records, refusal
from homelab_agent.database.moving.change import Change
from homelab_agent.database.moving.course import Cancelled, Course
from homelab_agent.database.moving.destination import Destination
from homelab_agent.database.moving.order import Configuration, FixedElsewhere, Order
from homelab_agent.database.moving.pace import Pace
from homelab_agent.database.moving.pieces import Accepted
from homelab_agent.database.moving.side import Side, connected
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.upkeep import Rollups
from homelab_agent.database.settings import EMBEDDED, DatabaseSettings
from homelab_agent.database.shipper import Shipper

FEW_ROWS = 20_000
"""What is left for the time in which the shipper is held, if it can be done with fewer passes than `PASSES`."""
PASSES = 6
PATIENCE_SECONDS = 900.0
"""So long a server that is away or full is tried again, since it last took something."""

PASSING = (
    *pool.CANNOT_ASK,
    asyncpg.InsufficientResourcesError,  # a full disk among them
    asyncpg.TransactionRollbackError,  # a deadlock among them
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.CrashShutdownError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""What may be over when it is tried again."""

log = journal.logger("database")


class NothingAsked(AgentError):
    """It is not known where to: an address is not kept beyond the run that it was given for."""

    repair = "homelab-agent db move --to ADDRESS: it goes on where a run was cut short"


class MoveStuck(AgentError):
    """The move does not get on: for {minutes} minutes nothing could be copied."""

    repair = "see the cause (is there room in the target, do both servers run?), then the same command again goes on"


@dataclass(slots=True)
class _Tally:
    """Rows that were copied by this run, and how many it has found there."""

    copied: int = 0
    found: int | None = None
    alive_at: float = 0.0


@dataclass(slots=True)
class Moving:
    """Moves the history of `database` to where an order says."""

    database: Database
    shipper: Shipper
    rollups: Rollups
    base: Foundation
    settings: DatabaseSettings
    configuration: Configuration
    patience: float = PATIENCE_SECONDS
    _asked: dict[str, Order] = field(default_factory=dict)
    _accepted: dict[str, Accepted] = field(default_factory=dict)

    def take(self, order: Order) -> frozenset[str]:
        """Keep an order for the run that is started with these options: what it says may be a secret."""
        word = str(uuid7())
        self._asked[word] = order
        return frozenset({word})

    async def work(self, run: Run) -> Outcome:
        """Copy, and where it is asked for, change over."""
        order = next((self._asked[word] for word in run.options if word in self._asked), None)
        self._asked.clear()
        if order is None:
            raise NothingAsked
        if variable := self.configuration.fixed_by():
            raise FixedElsewhere(variable=variable)
        where = self.database.where
        if where is None:
            raise pool.unreachable(self.database.connection.detail, self.database.connection.repair)
        if order.to == EMBEDDED == self.database.settings.url:
            raise refusal.SameDatabase(address=where.shown)
        settings = self.database.settings.model_copy(update={"url": order.to, "password": order.password})
        to = Destination(settings, self.base.secrets, self.base.directory)
        try:
            return await self._move(run, order, where, to)
        except Cancelled as error:
            return Outcome(ok=False, detail="cancelled; what was copied stays there", repair=error.repair)
        finally:
            if not self.database.uses(to.embedded):
                await to.leave()

    async def _move(self, run: Run, order: Order, where: Address, to: Destination) -> Outcome:
        address = await to.address(run.say)
        tally = _Tally(alive_at=self._now())
        self._accepted = {}
        async with self._sides(where, address) as (source, target):  # what is refused at once is not tried again
            edition, missing = await refusal.examine(source, target)
            for line in plan.head(source, edition, address, len(missing)):
                run.say(line)
            if order.plan:
                for line in await plan.tell(self._course(run, source, target)):
                    run.say(line)
                return Outcome(ok=True, detail="nothing was changed")
        failures = 0
        while True:
            try:
                async with self._sides(where, address) as (source, target):
                    course = self._course(run, source, target)
                    await self._copy(run, course, tally)
                    if not order.switch:
                        return Outcome(ok=True, detail=f"{_told(tally)}; the agent goes on with the database it has")
                    return await self._change(run, course, order, to, tally)
            except (*PASSING, AgentError) as error:
                if not _may_pass(error):
                    raise
                failures = failures + 1 if self._now() - tally.alive_at > pool.QUERY_SECONDS else 1
                await self._wait(run, error, failures, tally)

    async def _copy(self, run: Run, course: Course, tally: _Tally) -> None:
        """Copy until little is left that came meanwhile."""
        await course.prepare()
        for _ in range(PASSES):
            differences = await course.compare()
            rows = sum(one.rows for one in differences)
            found = sum(one.held for one in differences) - rows
            if tally.found is None:
                tally.found = found
                said = f", {found:,} are there already" if found else ""
                run.say(f"{rows:,} rows are to be copied{said}")
            pace = Pace(run, self.base.clock, rows, found)

            def on_piece(count: int, name: str, pace: Pace = pace) -> None:
                tally.copied += count
                tally.alive_at = self._now()
                pace.piece(count, name)

            await course.level(differences, on_piece)
            _, other = await course.mirror()
            tally.copied += other
            tally.alive_at = self._now()
            if rows <= FEW_ROWS:
                break
        run.progress(1, 1, "", "rolling up in the new database")
        await course.roll()

    async def _change(self, run: Run, course: Course, order: Order, to: Destination, tally: _Tally) -> Outcome:
        change = Change(self.database, self.shipper, self.configuration, self.base, course)
        held, rows = await change.over(run, order, to)
        with suppress(asyncpg.PostgresError, *pool.CANNOT_ASK):
            await course.notes.forget(course.target)
        said = f"{_told(tally)}; {rows:,} rows are the same in both; rows waited in the spool for {held:.1f} s"
        try:
            await self.rollups.make()
        except (AgentError, asyncpg.PostgresError, *pool.CANNOT_ASK) as error:  # the hourly job does it
            log.warning("database.rollups_not_made", cause=describe(error))
        left = await change.left_behind()
        log.info("database.moved", address=to.settings.url if to.embedded else course.target.where.shown, rows=rows)
        return Outcome(ok=True, detail=f"{said}; the agent uses {course.target.where.shown} now{left}")

    def _course(self, run: Run, source: Side, target: Side) -> Course:
        notes = records.Notes.of(self.base.host)
        keep = Keep.of(self.settings)
        return Course(source, target, keep, self.base.clock, run, self._accepted, notes)

    @asynccontextmanager
    async def _sides(self, where: Address, address: Address) -> AsyncIterator[tuple[Side, Side]]:
        async with connected(where, repair=OTHER_REPAIR) as source, connected(address, repair=_REPAIR) as target:
            yield source, target

    async def _wait(self, run: Run, error: Exception, failures: int, tally: _Tally) -> None:
        """Wait before another try; raises `MoveStuck` when it has been long enough."""
        if self._now() - tally.alive_at > self.patience:
            raise MoveStuck(minutes=round(self.patience / 60), cause=describe(error)) from error
        run.say(f"{describe(error)}; it is tried again")
        log.warning("database.move_waits", cause=describe(error))
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0 + backoff(failures)):
                await run.cancelled.wait()
        if run.cancelled.is_set():
            raise Cancelled

    def _now(self) -> float:
        return self.base.clock.read().monotonic


_REPAIR = "see that the address is right and that the server there runs, then the same command again goes on"


def _may_pass(error: Exception) -> bool:
    """Whether it may be over by itself; an error of ours is so where it tells of such a one."""
    if isinstance(error, AgentError):
        return isinstance(error.__cause__, PASSING)
    return True


def _told(tally: _Tally) -> str:
    there = f", {tally.found:,} were there already" if tally.found else ""
    return f"{tally.copied:,} rows copied{there}"
