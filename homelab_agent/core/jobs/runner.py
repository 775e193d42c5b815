"""Carries out runs: one after the other where they use the same, within their deadline, always recorded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock
from homelab_agent.core.errors import describe
from homelab_agent.core.jobs.claims import Claim, Claims
from homelab_agent.core.jobs.history import RunHistory
from homelab_agent.core.jobs.output import Watched
from homelab_agent.core.jobs.run import (
    AgentStopping,
    AlreadyRunning,
    Asked,
    Ending,
    Job,
    Outcome,
    Progress,
    Run,
    RunRecord,
    Trigger,
    judge,
    recordable,
)
from homelab_agent.core.state import StateUnavailable
from homelab_agent.core.uuid7 import uuid7
from homelab_agent.core.waiting import all_done

GRACE_SECONDS = 45.0
"""How long a run that is asked to stop may take before it is cancelled hard: longer than it may have to wait itself for
the root half to end what it does (`privilege.GRACE_SECONDS`)."""

RETRY_SECONDS = 30.0
PROGRESS_EVERY_SECONDS = 0.2

WATCHED_RUNS = 4
"""Of the last so many runs that printed something that is kept after the end, for who comes late or comes back."""

log = journal.logger("jobs")


@dataclass(slots=True, eq=False)
class _Live:
    """A run that is not over; `goes_on` is set while it waits for nobody in its middle."""

    job: Job
    run: Run
    watched: Watched
    claim: Claim
    held: set[str]
    told: asyncio.Event = field(default_factory=asyncio.Event)
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)
    refused: Exception | None = None
    asked: Asked = ""
    task: asyncio.Task[None] | None = None
    work: asyncio.Task[Outcome] | None = None
    shown_at: float = float("-inf")

    @property
    def record(self) -> RunRecord:
        return self.watched.record

    def ask(self, what: Asked) -> None:
        self.asked = self.asked or what
        self.run.cancelled.set()


class Runner:
    """The runs under way; `on_change` is given each record as it changes, an ended one once it is on disk."""

    def __init__(self, history: RunHistory, clock: Clock, on_change: Callable[[RunRecord], None]) -> None:
        self._history = history
        self._clock = clock
        self._on_change = on_change
        self._live: dict[str, _Live] = {}
        self._claims = Claims()
        self._ended: dict[str, Watched] = {}
        self._stopping = False

    def open(self) -> None:
        """Start what is asked for (again), until `stop`."""
        self._stopping = False

    async def start(
        self,
        job: Job,
        trigger: Trigger,
        schedule: str = "",
        handled: datetime | None = None,
        *,
        options: frozenset[str] = frozenset(),
    ) -> str:
        """Start a run and return its id, once it is on disk; `handled`: see `RunHistory.begin`.

        Raises `AlreadyRunning`, `AgentStopping`, `StateUnavailable`. It goes on whether one waits here or
        not.
        """
        if self._stopping:
            raise AgentStopping
        for other in self._live.values():
            if other.job.name == job.name:
                raise AlreadyRunning(job=job.name, state=other.record.state, run=other.run.id)
        live = self._admit(job, trigger, options)
        live.task = asyncio.create_task(self._carry_out(live, schedule, handled), name=f"run of {job.name}")
        await live.told.wait()
        if live.refused is not None:
            raise live.refused
        return live.run.id

    def cancel(self, run_id: str) -> bool:
        """Ask a run to stop; return whether it is under way."""
        live = self._live.get(run_id)
        if live is None or live.claim.over.is_set():
            return False
        live.ask("cancelled")
        return True

    def record(self, run_id: str) -> RunRecord | None:
        """Return what is known of a run that is under way."""
        live = self._live.get(run_id)
        return None if live is None else live.record

    def live(self) -> list[RunRecord]:
        """Return the runs that are under way or wait."""
        return [live.record for live in self._live.values()]

    def watched(self, run_id: str) -> Watched | None:
        """Return a run that is under way, or one of the last that have ended, as who follows it sees it."""
        live = self._live.get(run_id)
        return self._ended.get(run_id) if live is None else live.watched

    async def stop(self, deadline: float) -> None:
        """Start nothing more, ask all runs to stop; cancel hard what has not by half of `deadline` seconds.

        Returns when all have ended and are recorded, or at the deadline; what is left then is found as
        interrupted by the next start.
        """
        self._stopping = True
        runs = list(self._live.values())
        for live in runs:
            live.run.stopping = True
            live.ask("cancelled")
        tasks = [live.task for live in runs if live.task is not None]
        if await all_done(tasks, self._clock, within=deadline / 2):
            return
        for live in runs:
            if live.work is not None:
                live.work.cancel()
        if not await all_done(tasks, self._clock, within=deadline / 2):
            left = [live.job.name for live in runs if live.task is not None and not live.task.done()]
            log.warning("jobs.left_behind", jobs=left)

    def _admit(self, job: Job, trigger: Trigger, options: frozenset[str]) -> _Live:
        now = self._clock.read().wall
        run_id = uuid7()
        record = RunRecord(run_id, job.name, trigger, "waiting", now)
        watched = Watched(record)
        run = Run(
            run_id,
            job.name,
            trigger,
            on_progress=lambda progress: self._progress(live, progress),
            on_line=watched.say,
            on_use=lambda uses: self._using(live, uses),
            options=options,
        )
        self._live[run_id] = live = _Live(job, run, watched, self._claims.make(job.name, job.uses), set(job.uses))
        live.goes_on.set()
        if self._claims.in_the_way(live.claim) is None:
            watched.record = replace(record, state="running", started_at=now)
        return live

    async def _carry_out(self, live: _Live, schedule: str, handled: datetime | None) -> None:
        try:
            try:
                await self._history.begin(live.record, schedule, handled)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is for who asked
                live.refused = error
                return
            finally:
                live.told.set()
            self._tell(live)
            ending = await self._wait_for_turn(live) or await self._perform(live)
            self._claims.end(live.claim)
            await self._conclude(live, ending)
        finally:
            self._claims.end(live.claim)
            self._live.pop(live.run.id, None)

    async def _wait_for_turn(self, live: _Live) -> Ending | None:
        """Return None when nothing is in the way, or the ending when it is asked to stop before that."""
        turn = asyncio.ensure_future(self._turn(live, live.claim))
        asked = asyncio.ensure_future(live.run.cancelled.wait())
        try:
            await asyncio.wait({turn, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not turn.done():
                return Ending("cancelled", "was asked to stop before it began")
        finally:
            turn.cancel()
            asked.cancel()
        if live.record.state == "waiting":
            now = self._clock.read().wall
            self._change(live, replace(live.record, state="running", started_at=now, waits_for=""))
            with contextlib.suppress(StateUnavailable):  # that it would run is on disk
                await self._history.update(live.record)
        return None

    async def _turn(self, live: _Live, claim: Claim) -> None:
        """Return when nothing is in a claim's way."""
        while (other := self._claims.in_the_way(claim)) is not None:
            self._change(live, replace(live.record, waits_for=other.job))
            await other.over.wait()

    @contextlib.asynccontextmanager
    async def _using(self, live: _Live, uses: frozenset[str]) -> AsyncIterator[None]:
        claim = self._claims.make(live.job.name, uses - live.held)
        live.held |= claim.uses
        try:
            if self._claims.in_the_way(claim) is not None:
                await self._stand_still(live, claim)
            yield
        finally:
            live.held -= claim.uses
            self._claims.end(claim)

    async def _stand_still(self, live: _Live, claim: Claim) -> None:
        """Wait in the middle of a run."""
        since = self._clock.read().monotonic
        live.goes_on.clear()
        try:
            await self._turn(live, claim)
        finally:
            live.run.waited += self._clock.read().monotonic - since
            live.goes_on.set()
            self._change(live, replace(live.record, waits_for=""))

    async def _perform(self, live: _Live) -> Ending:
        log.info("jobs.run_started", job=live.job.name, run_id=live.run.id, trigger=live.run.trigger)
        live.work = work = asyncio.create_task(_call(live), name=f"job {live.job.name}")
        limit = asyncio.ensure_future(self._deadline(live))
        asked = asyncio.ensure_future(live.run.cancelled.wait())
        try:
            await asyncio.wait({work, limit, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            limit.cancel()
            asked.cancel()
        if not work.done():
            live.ask("timed_out")
        while not work.done() and not await all_done([work], self._clock, within=GRACE_SECONDS):
            work.cancel()
        if work.cancelled():
            return judge(live.job, live.asked, None, asyncio.CancelledError())
        error = work.exception()
        if error is not None:
            log.error("jobs.run_raised", job=live.job.name, run_id=live.run.id, exc_info=error)
        return judge(live.job, live.asked, None if error is not None else work.result(), error)

    async def _deadline(self, live: _Live) -> None:
        """Return when a run has taken as long as it may; that it waits for another is no time of its own."""
        end = self._clock.read().monotonic + live.job.deadline
        while (left := end + live.run.waited - self._clock.read().monotonic) > 0:
            await self._clock.sleep(left)
            await live.goes_on.wait()

    async def _conclude(self, live: _Live, ending: Ending) -> None:
        """Record the end; while that is impossible the run counts as under way."""
        ended = replace(
            live.record,
            state=ending.state,
            detail=ending.detail,
            repair=ending.repair,
            ended_at=self._clock.read().wall,
            waits_for="",
        )
        try:
            await self._record_end(ended)
        except Exception as error:  # a run without an end would count as under way for good
            log.exception("jobs.not_recordable", job=ended.job, run_id=ended.id)
            ended = replace(ended, state="failed", detail=recordable(describe(error)), repair="")
            await self._record_end(ended)
        self._live.pop(live.run.id)
        self._keep(live.watched)
        self._change(live, ended)
        log.info("jobs.run_ended", job=ended.job, run_id=ended.id, state=ended.state, detail=ended.detail)

    async def _record_end(self, ended: RunRecord) -> None:
        while True:
            try:
                await self._history.end(ended)
            except StateUnavailable as error:
                log.warning("jobs.not_recorded", job=ended.job, run_id=ended.id, error=error)
                await self._clock.sleep(RETRY_SECONDS)
            else:
                return

    def _progress(self, live: _Live, progress: Progress) -> None:
        live.watched.record = replace(live.record, progress=progress)
        now = self._clock.read().monotonic
        if now - live.shown_at >= PROGRESS_EVERY_SECONDS:
            live.shown_at = now
            self._tell(live)

    def _change(self, live: _Live, record: RunRecord) -> None:
        live.watched.record = record
        self._tell(live)

    def _tell(self, live: _Live) -> None:
        self._on_change(live.record)
        live.watched.news.publish(None)

    def _keep(self, watched: Watched) -> None:
        if watched.output.printed:
            self._ended[watched.record.id] = watched
        while len(self._ended) > WATCHED_RUNS:
            del self._ended[next(iter(self._ended))]


async def _call(live: _Live) -> Outcome:
    with journal.bound(run_id=live.run.id):
        return await live.job.run(live.run)
