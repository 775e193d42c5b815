"""The loop: batches from a source, each in one transaction into PostgreSQL, then marked at the source, until drained.

Whatever cuts it short, the next run begins where PostgreSQL has committed: what was stored and not marked is met again,
found to be there, and marked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import asyncpg

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock
from homelab_agent.core.errors import AgentError, NeighbourUnreachable, describe
from homelab_agent.core.foundation import Database
from homelab_agent.core.jobs import Run
from homelab_agent.reading import lease, pace, proof, statements
from homelab_agent.reading.document import Document, Rejected
from homelab_agent.reading.lease import TakenElsewhere
from homelab_agent.reading.order import Order
from homelab_agent.reading.pace import Marking
from homelab_agent.reading.patience import Patience
from homelab_agent.reading.proof import Proof, Proving
from homelab_agent.reading.settings import ReadingSource
from homelab_agent.reading.source import Keeper, NotLetIn, Opened, Source, SourceUnreachable
from homelab_agent.reading.store import Store
from homelab_agent.reading.tally import Tally

Status: TypeAlias = Literal["ok", "partial", "failed"]

PASSES = (NeighbourUnreachable, SourceUnreachable, NotLetIn, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
"""What may be otherwise in a moment: who is not let in may find a new password."""

log = journal.logger("reading")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended at one source."""

    source: str
    status: Status
    tally: Tally
    detail: str
    repair: str = ""

    def __str__(self) -> str:
        return f"{self.source}: {self.status}, {self.tally}" + (f"; {self.detail}" if self.detail else "")


@dataclass(slots=True)
class _Course:
    """A run at one source, over all its tries."""

    run: Run
    order: Order
    patience: Patience
    began: float
    tally: Tally = field(default_factory=Tally)
    days: set[str] = field(default_factory=set)
    total: int | None = None
    proof: Proof = field(default_factory=Proof)


class Sync:
    """Syncs one source; `patience` in seconds."""

    def __init__(
        self, source: Source, settings: ReadingSource, database: Database, clock: Clock, *, host: str, patience: float
    ) -> None:
        self.source = source
        self._marks_rejected = settings.on_reject == "mark"
        self._database = database
        self._clock = clock
        self._host = host
        self._patience = patience

    async def run(self, run: Run, order: Order) -> Ended:
        """Take all there is to take, through outages that pass in time; raises nothing of what may go wrong."""
        course = _Course(run, order, Patience(self._clock, self._patience), self._clock.read().monotonic)
        while True:
            before = course.tally.progress
            try:
                return await self._attempt(course)
            except TakenElsewhere as error:
                return Ended(self.source.name, "ok", course.tally, str(error))
            except PASSES as error:
                if course.tally.progress > before:
                    course.patience.renew()
                log.warning("reading.interrupted", source=self.source.name, cause=describe(error))
                if not await course.patience.wait(run.cancelled):
                    return await self._failed(course, error)
            except AgentError as error:
                return await self._failed(course, error)

    async def _attempt(self, course: _Course) -> Ended:
        order, tally = course.order, course.tally
        async with self.source.open() as opened, self._database.acquire() as connection:
            if order.dry_run:
                return await self._try_out(course, opened, connection)
            async with lease.held(connection, self.source.name):
                store = Store(connection, origin=self.source.name, run=course.run.id, stream=order.stream)
                cursor = await store.begin(self._host)
                left = await opened.left(order.window)
                course.total = None if left is None else tally.seen + left
                if not await self._drain(course, opened, store, cursor):
                    return await self._end(course, opened, store, "it was asked to stop")
                await self._prove(course, opened, connection)
                if order.window is not None:
                    await connection.execute(statements.FORGET_CURSOR, self.source.name, order.stream)
                return await self._end(course, opened, store)

    async def _drain(self, course: _Course, opened: Opened, store: Store, cursor: Mapping[str, Any]) -> bool:
        """Store batch after batch, and have each marked when it is committed; return whether that was all of them."""
        tally, run, before = course.tally, course.run, course.tally.marked
        marking = Marking(opened, run.id, marks_rejected=self._marks_rejected)
        try:
            async with pace.ahead(opened.batches(cursor, course.order.window)) as batches:
                async for batch in batches:
                    written = await store.write(batch, tally)
                    tally.add(written.tally)
                    course.days |= proof.days_of([*written.taken, *written.refused])
                    await marking.begin(written.taken, written.refused)
                    tally.marked = before + marking.marked
                    self._tell(course)
                    if run.cancelled.is_set():
                        return False
        finally:  # what is committed is marked, whatever ended this
            await marking.done()
            tally.marked = before + marking.marked
        return True

    async def _try_out(self, course: _Course, opened: Opened, connection: Any) -> Ended:
        """Count what a run would do, and do nothing."""
        tally = course.tally = Tally()
        course.total = await opened.left(course.order.window)
        async with aclosing(opened.batches({}, course.order.window)) as batches:
            async for batch in batches:
                good = [one.key for one in batch.arrived if isinstance(one, Document)]
                there = len(await connection.fetch(statements.THERE, good))
                tally.add(Tally(len(good) - there, there, rejected=len(batch.arrived) - len(good)))
                for one in batch.arrived:
                    if isinstance(one, Rejected):
                        course.run.say(f"{one.key}: {one.cause}, {one.detail}")
                self._tell(course)
                if course.run.cancelled.is_set():
                    break
        return Ended(self.source.name, "ok", tally, "a dry run: nothing was written or marked")

    async def _prove(self, course: _Course, opened: Opened, connection: Any) -> None:
        """Compare the days that were touched with the source, where it keeps what it gave."""
        if not isinstance(opened, Keeper):
            return
        proving = Proving(opened, connection, self.source.name, counts_rejected=self._marks_rejected)
        course.proof = await proving.prove(course.days)
        rows = [(course.run.id, self.source.name, *row) for row in proof.as_rows(course.proof)]
        await connection.executemany(statements.PROVEN, rows)

    async def _end(self, course: _Course, opened: Opened, store: Store, stopped: str = "") -> Ended:
        backlog = await opened.left(None)
        ended = self._judge(course, stopped)
        await store.end(ended.status, course.tally, backlog=backlog, error="" if ended.status == "ok" else ended.detail)
        return ended

    def _judge(self, course: _Course, stopped: str) -> Ended:
        """Return how it ended: never ok where something was not stored, or is not proven."""
        tally, name = course.tally, self.source.name
        if stopped:
            return Ended(name, "partial", tally, stopped)
        if failed := course.proof.failed:
            repair = f"homelab-agent reading verify --source {name} --window {failed[0]}"
            return Ended(name, "partial", tally, str(course.proof), repair)
        if tally.rejected:
            return Ended(name, "partial", tally, str(course.proof), "homelab-agent reading rejected list")
        return Ended(name, "ok", tally, str(course.proof))

    async def _failed(self, course: _Course, error: BaseException) -> Ended:
        """Record that it could not go on, where that can be recorded."""
        status: Status = "partial" if course.tally.seen else "failed"
        said = describe(error)
        if not course.order.dry_run:
            with suppress(AgentError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                async with self._database.acquire() as connection:
                    store = Store(connection, origin=self.source.name, run=course.run.id, stream=course.order.stream)
                    await store.register(self._host)  # the lease may be another's: its run is not to be touched
                    await store.end(status, course.tally, backlog=None, error=said)
        repair = error.repair if isinstance(error, AgentError) else "homelab-agent doctor database"
        return Ended(self.source.name, status, course.tally, said, repair)

    def _tell(self, course: _Course) -> None:
        done, total = course.tally.seen, course.total
        rate = done / max(self._clock.read().monotonic - course.began, 0.001)
        left = "" if total is None else f", about {max(total - done, 0) / max(rate, 0.001):.0f} s left"
        course.run.progress(done, total, "documents", f"of {self.source.name}, {rate:.0f}/s{left}")


def together(ended: Sequence[Ended], *, left_out: Sequence[str] = ()) -> tuple[Status, str, str]:
    """Return how a run ended as a whole: its status, what it says, and the first repair.

    `left_out` are the sources that it did not come to, for it was asked to stop.
    """
    statuses: set[Status] = {one.status for one in ended} | ({"partial"} if left_out else set())
    status: Status = "ok" if statuses <= {"ok"} else "failed" if statuses == {"failed"} else "partial"
    repair = next((one.repair for one in ended if one.repair), "")
    said = [*map(str, ended), *(f"{name}: not begun, it was asked to stop" for name in left_out)]
    return status, " | ".join(said) or "there is no source", repair
