"""The loop: batches from a source, each in one transaction into PostgreSQL, then marked at the source, until drained.

Whatever cuts it short, the next run begins where PostgreSQL has committed: what was stored and not marked is met again,
found to be there, and marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import asyncpg

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock
from homelab_agent.core.errors import AgentError, NeighbourUnreachable, describe
from homelab_agent.core.foundation import Database
from homelab_agent.core.jobs import Run
from homelab_agent.reading import decided, foresight, lease, pace
from homelab_agent.reading.advance import Advance
from homelab_agent.reading.history import History
from homelab_agent.reading.lease import StillOurs, TakenElsewhere
from homelab_agent.reading.order import Order
from homelab_agent.reading.pace import Marking
from homelab_agent.reading.patience import Patience
from homelab_agent.reading.proof import Proof, Proving
from homelab_agent.reading.source import Keeper, NotLetIn, Opened, Source, SourceUnreachable
from homelab_agent.reading.store import Store
from homelab_agent.reading.tally import Tally

Status: TypeAlias = Literal["ok", "partial", "failed"]

PASSES = (
    NeighbourUnreachable,
    StillOurs,
    SourceUnreachable,
    NotLetIn,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
)
"""What may be otherwise in a moment: who is not let in may find a new password."""

CHANGED_SHOWN_MAX = 1000
"""So many documents that a backfill found changed are named."""

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
    advance: Advance
    tally: Tally = field(default_factory=Tally)
    has_begun: bool = False
    total: int | None = None


class Sync:
    """Syncs one source; `patience` in seconds."""

    def __init__(
        self, source: Source, database: Database, clock: Clock, history: History, *, host: str, patience: float
    ) -> None:
        self.source = source
        self._database = database
        self._clock = clock
        self._history = history
        self._host = host
        self._patience = patience

    async def run(self, run: Run, order: Order, advance: Advance) -> Ended:
        """Take all there is to take, through outages that pass in time; raises nothing of what may go wrong."""
        course = _Course(run, order, Patience(self._clock, self._patience), advance)
        while True:
            before = course.tally.progress
            try:
                return await self._attempt(course)
            except TakenElsewhere as error:
                if course.has_begun:  # it was ours, and is not any more
                    return await self._failed(course, error)
                return Ended(self.source.name, "ok", course.tally, str(error))
            except PASSES as error:
                if course.tally.progress > before:
                    course.patience.renew()
                log.warning("reading.outage", source=self.source.name, cause=describe(error))
                if not await course.patience.wait(run.cancelled):
                    return await self._failed(course, error)
            except AgentError as error:
                return await self._failed(course, error)

    async def _attempt(self, course: _Course) -> Ended:
        name, run = self.source.name, course.run
        async with self.source.open() as opened, self._database.acquire() as connection:
            if course.order.dry_run:
                return await self._try_out(course, opened, connection)
            async with lease.held(connection, name, host=self._host):
                await self._history.settle(connection, name, run=run.id)
                store = self._store(course, connection, is_kept=isinstance(opened, Keeper))
                course.tally = await self._counted(course, store)
                course.has_begun = True
                for key, why in (await decided.reopen(connection, opened, name)).items():
                    run.say(f"{name} {key} cannot be tried again: {why}")
                left = await opened.left(course.order.window)
                course.total = None if left is None else course.tally.seen + left
                if not await self._drain(course, opened, store):
                    stopped = Ended(name, "partial", course.tally, "it was asked to stop")
                    await store.end("partial", course.tally, backlog=await opened.left(None), error=stopped.detail)
                    return stopped
                return await self._complete(course, opened, store, connection)

    def _store(self, course: _Course, connection: Any, *, is_kept: bool) -> Store:
        return Store(connection, origin=self.source.name, run=course.run.id, order=course.order, is_kept=is_kept)

    async def _counted(self, course: _Course, store: Store) -> Tally:
        """Return what this run has counted: of a batch whose commit was not answered PostgreSQL alone knows.

        What was marked is known here, for it is done after the commit.
        """
        return replace(await store.begin(self._host), marked=course.tally.marked)

    async def _drain(self, course: _Course, opened: Opened, store: Store) -> bool:
        """Store batch after batch, and have each marked when it is committed; return whether that was all of them."""
        tally, run = course.tally, course.run
        marking = Marking(opened, run.id, tally, marks_rejected=self.source.marks_rejected)
        cursor = await store.cursor()
        try:
            async with pace.ahead(opened.batches(cursor, course.order.window)) as batches:
                async for batch in batches:
                    written = await store.write(batch, tally)
                    self._name_changed(course, written.changed)
                    tally.add(written.tally)
                    await marking.begin(written.taken, [*written.rejected, *written.passed_over])
                    course.advance.tell(self.source.name, tally.seen, course.total)
                    if run.cancelled.is_set():
                        return False
        finally:  # what is committed is marked, whatever ended this
            await marking.done()
        return True

    def _name_changed(self, course: _Course, keys: Sequence[str]) -> None:
        for key in keys[: max(0, CHANGED_SHOWN_MAX - course.tally.changed)]:
            course.run.say(f"{self.source.name} {key} was changed since it was stored; its row stays")

    async def _try_out(self, course: _Course, opened: Opened, connection: Any) -> Ended:
        """Count what a run would do, and do nothing."""
        tally = course.tally = Tally()
        course.total = await opened.left(course.order.window)
        cursor = await self._store(course, connection, is_kept=False).cursor()
        async with aclosing(opened.batches(cursor, course.order.window)) as batches:
            async for batch in batches:
                is_backfill = course.order.window is not None
                counted, refused = await foresight.foresee(connection, self.source.name, batch, is_backfill=is_backfill)
                tally.add(counted)
                for one in refused:
                    course.run.say(f"{one.key}: {one.cause}, {one.detail}")
                course.advance.tell(self.source.name, tally.seen, course.total)
                if course.run.cancelled.is_set():
                    break
        said = "a dry run: nothing was written or marked"
        return Ended(self.source.name, "ok", tally, _joined(said, await _beyond(course, opened)))

    async def _complete(self, course: _Course, opened: Opened, store: Store, connection: Any) -> Ended:
        """Compare the days that were touched, by whatever run, with a source that keeps what it gave; record the end.

        A proof, that it is not owed any more, and the end of the run are on disk together.
        """
        proof = Proof()
        if isinstance(opened, Keeper):
            proof = await Proving(self.source, opened, connection).prove(await store.unproven())
        ended = self._judge(course, proof, await _beyond(course, opened))
        error = "" if ended.status == "ok" else ended.detail
        await store.end(ended.status, course.tally, backlog=await opened.left(None), error=error, found=proof)
        return ended

    def _judge(self, course: _Course, proof: Proof, beyond: str) -> Ended:
        """Return how it ended: never ok where something was not stored, or is not proven."""
        name, tally = self.source.name, course.tally
        detail = _joined(str(proof), _told_changed(tally.changed), beyond)
        if failed := proof.failed:
            repair = f"homelab-agent reading verify --source {name} --window {failed[0]}"
            return Ended(name, "partial", tally, detail, repair)
        if tally.rejected:
            return Ended(name, "partial", tally, detail, "homelab-agent reading rejected list")
        return Ended(name, "ok", tally, detail)

    async def _failed(self, course: _Course, error: BaseException) -> Ended:
        """Record that it could not go on, where that can be recorded; else `History` does it later."""
        said = describe(error)
        status: Status = "partial" if course.tally.seen or isinstance(error, TakenElsewhere) else "failed"
        if not course.order.dry_run:
            with suppress(AgentError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                async with self._database.acquire() as connection:
                    store = self._store(course, connection, is_kept=False)
                    course.tally = await self._counted(course, store)
                    await store.end(status, course.tally, backlog=None, error=said)
        repair = error.repair if isinstance(error, AgentError) else "homelab-agent doctor database"
        return Ended(self.source.name, status, course.tally, said, repair)


async def _beyond(course: _Course, opened: Opened) -> str:
    """Return what a backfill leaves out of whatever window it is: documents whose ids hold no time."""
    if course.order.window is None or not isinstance(opened, Keeper) or not (count := await opened.timeless()):
        return ""
    return f"not in any window: {count} documents whose ids hold no time (reading verify --window other)"


def _told_changed(count: int) -> str:
    return f"{count} changed at the source since they were stored, their rows stay" if count else ""


def _joined(*said: str) -> str:
    return "; ".join(filter(None, said))


def together(ended: Sequence[Ended], *, left_out: Sequence[str] = ()) -> tuple[Status, str, str]:
    """Return how a run ended as a whole: its status, what it says, and the first repair.

    `left_out` are the sources that it did not come to, for it was asked to stop.
    """
    statuses: set[Status] = {one.status for one in ended} | ({"partial"} if left_out else set())
    status: Status = "ok" if statuses <= {"ok"} else "failed" if statuses == {"failed"} else "partial"
    repair = next((one.repair for one in ended if one.repair), "")
    said = [*map(str, ended), *(f"{name}: not begun, it was asked to stop" for name in left_out)]
    return status, " | ".join(said) or "there is no source", repair
