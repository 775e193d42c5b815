"""Drains the spool into PostgreSQL: in order, each batch in one transaction, repeatable.

A row that is there already is left as it is; one that PostgreSQL refuses for its content (SQLSTATE class 22 or
23), or whose key is there with other content, is rejected with the reason; whatever else goes wrong keeps the
batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain

import asyncpg

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock, Instant, about
from homelab_agent.core.errors import NeighbourUnreachable, describe
from homelab_agent.core.nudge import Nudge
from homelab_agent.core.spool import Batch, Row, Spool
from homelab_agent.database import insert
from homelab_agent.database.catalogue import Catalogue, Rejected
from homelab_agent.database.database import Database, backoff
from homelab_agent.database.insert import Shape
from homelab_agent.database.pool import Connection

MANY_ROWS = 5000
LOOK_SECONDS = 10.0
"""So many rows are shipped though more could be gathered, which is looked at this often."""

AFTER_SAMPLES_SECONDS = 0.5
"""Gathering ends just after the others' work at the wall clock's multiples, so that the newest samples go too."""

FLUSH_SECONDS = 5.0
"""How long the last rows may take at shutdown; what is left then goes to disk."""

log = journal.logger("shipper")


@dataclass(slots=True)
class Shipper:
    """The one consumer of the spool. `shipped` and `rejected` count rows; `trouble` says why none go now."""

    database: Database
    spool: Spool
    clock: Clock
    ship_every: float
    shipped: int = 0
    rejected: int = 0
    trouble: str = ""
    _known: Catalogue = field(default_factory=Catalogue)
    _nudge: Nudge = field(init=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._nudge = Nudge(self.clock)
        self.spool.expect(self.ship_every)

    def adopt(self, ship_every: float) -> None:
        """Take a new rhythm, also for the wait that has begun."""
        self.ship_every = ship_every
        self.spool.expect(ship_every)
        self._nudge.give()

    @asynccontextmanager
    async def held(self, why: str) -> AsyncIterator[None]:
        """Ship nothing while the context lasts: what comes waits in the spool. Then nothing is known of any table."""
        async with self._turn:
            self.trouble = why
            try:
                yield
            finally:
                self._known = Catalogue()
                self.trouble = ""

    async def run(self) -> None:
        """Ship what the spool holds, every `ship_every` seconds or when it is much, until cancelled; then once more."""
        failures = 0
        try:
            while True:
                await self.spool.wait()
                await self.database.wait_until_up()
                failures = 0 if await self._drain() else failures + 1
                if not failures:
                    await self._gather()
                elif self.database.is_up:  # else there is something better to wait for
                    await self.clock.sleep(backoff(failures))
        finally:
            if self.database.is_up:
                with suppress(TimeoutError):
                    async with asyncio.timeout(FLUSH_SECONDS):
                        await self._drain()

    async def _gather(self) -> None:
        """Let rows gather for `ship_every` seconds, as long as they are not many."""
        began = self.clock.read()
        while (left := self._gathered_at(began) - self.clock.read().monotonic) > 0:
            status = self.spool.status()
            if status.rows_memory + status.rows_disk >= MANY_ROWS:
                return
            await self._nudge.sleep(min(left, about(self.clock.read(), LOOK_SECONDS)))

    def _gathered_at(self, began: Instant) -> float:
        """Return the monotonic time at which what gathers since `began` is shipped."""
        return began.monotonic + about(began, self.ship_every) + AFTER_SAMPLES_SECONDS

    async def _drain(self) -> bool:
        """Ship until the spool is empty; return whether it is."""
        while True:
            async with self._turn:
                if (batch := await self.spool.take()) is None:
                    return True
                if not await self._deliver(batch):
                    return False

    async def _deliver(self, batch: Batch) -> bool:
        """Ship one batch; return whether PostgreSQL has it."""
        try:
            rejected = await self._ship(batch)
        except (NeighbourUnreachable, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            self._known = Catalogue()
            await self.spool.failed(batch)
            self._stumble(describe(error))
            return False
        await self.spool.done(batch, rejected)
        self.trouble = ""
        self.shipped += len(batch.rows) - len(rejected)
        self._report(rejected)
        return True

    async def _ship(self, batch: Batch) -> Rejected:
        """Put a batch into its tables; return the rows that PostgreSQL will never take, and why."""
        async with self.database.acquire() as connection:
            fit, rejected = await self._known.sort(connection, batch.rows)
            if not fit:
                return rejected
            try:
                return rejected + await self._insert(connection, fit)
            except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                if not insert.is_the_rows_fault(error):
                    raise
            async with connection.transaction():  # rare, so only now: with a savepoint around whatever may fail
                for shape, rows in fit.items():
                    rejected += await self._insert_halving(connection, shape, rows)
            return rejected

    async def _insert(self, connection: Connection, fit: Mapping[Shape, Sequence[Row]]) -> Rejected:
        """Insert rows, all or none; return those whose key is there with other content."""
        arguments = {
            shape: self._known.part(shape).arguments(row.values for row in rows) for shape, rows in fit.items()
        }
        inserted = await connection.fetchrow(self._known.insert(fit), *chain.from_iterable(arguments.values()))
        assert inserted is not None  # noqa: S101 - it counts, so it has an answer
        rejected: Rejected = []
        for (shape, rows), count in zip(fit.items(), inserted, strict=True):
            if count < len(rows):
                differing = await connection.fetch(self._known.part(shape).differing(), *arguments[shape])
                reason = f"{shape.table} holds this {', '.join(shape.key)} with other content"
                rejected += [(rows[row["ordinality"] - 1], reason) for row in differing]
        return rejected

    async def _insert_halving(self, connection: Connection, shape: Shape, rows: Sequence[Row]) -> Rejected:
        """Insert rows of one shape, halving until those stand alone that PostgreSQL refuses; return them."""
        try:
            async with connection.transaction():
                return await self._insert(connection, {shape: rows})
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if not insert.is_the_rows_fault(error):
                raise
            if len(rows) == 1:
                return [(rows[0], describe(error))]
        half = len(rows) // 2
        first = await self._insert_halving(connection, shape, rows[:half])
        return first + await self._insert_halving(connection, shape, rows[half:])

    def _stumble(self, cause: str) -> None:
        if cause != self.trouble:
            log.warning("shipper.stumbled", cause=cause)
        self.trouble = cause

    def _report(self, rejected: Rejected) -> None:
        self.rejected += len(rejected)
        for reason in dict.fromkeys(reason for _, reason in rejected):
            count = sum(each == reason for _, each in rejected)
            log.error("shipper.rejected", rows=count, reason=reason)
