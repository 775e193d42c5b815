"""Jobs: work on a schedule or when asked, each run with a row in the history from before it begins.

A run is committed to state.db before anyone is told of it; what an agent that is killed leaves unfinished,
its next start records as interrupted. A slot counts as dealt with in the same transaction as the run it
starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from functools import partial

from homelab_agent.core import journal
from homelab_agent.core.clock import LONGEST_SLEEP_SECONDS, Clock, about
from homelab_agent.core.feed import Feed
from homelab_agent.core.health import Check, Finding
from homelab_agent.core.jobs.history import RunHistory
from homelab_agent.core.jobs.output import Watched
from homelab_agent.core.jobs.run import (
    AgentStopping,
    AlreadyRunning,
    Job,
    RunRecord,
    Trigger,
    UnknownJob,
    finding,
)
from homelab_agent.core.jobs.runner import GRACE_SECONDS, Runner
from homelab_agent.core.jobs.schedule import Schedule, local_timezone, parse
from homelab_agent.core.jobs.timetable import Entry, Skip, Start, Wait, decide, share
from homelab_agent.core.pulse import Pulse
from homelab_agent.core.spool import Spool
from homelab_agent.core.state import State, StateUnavailable

STOP_SECONDS = 6.0
"""How long the runs that are under way may take to stop when the scheduler is cancelled."""

_BEFORE_NEXT = timedelta(seconds=GRACE_SECONDS + 15)
"""So long before a job's next slot a run is asked to stop that is to be over by then."""

log = journal.logger("jobs")


class Jobs:
    """All jobs of the agent. Every change of a run is published on `changes`, as the record it then has.

    `pulse` beats while the scheduler turns.
    """

    def __init__(self, state: State, spool: Spool, clock: Clock, *, host: str, timezone: tzinfo | None = None) -> None:
        """`timezone` is that of cron's fields; without it the host's, which is read from disk here."""
        self.changes: Feed[RunRecord] = Feed()
        self.pulse = Pulse(clock, "jobs", within=4 * LONGEST_SLEEP_SECONDS)
        self._clock = clock
        self._host = host
        self._timezone = timezone or local_timezone()
        self._history = RunHistory(state, spool, host)
        self._runner = Runner(self._history, clock, self._changed)
        self._jobs: dict[str, Job] = {}
        self._schedules: dict[str, Schedule] = {}
        self._entries: dict[str, Entry] = {}
        self._last: dict[str, RunRecord] = {}
        self._recovering = asyncio.Lock()
        self._recovered = False
        self._held_up = False

    def add(self, jobs: Iterable[Job]) -> None:
        """Make `jobs` known, before `run` is called; raises `ScheduleInvalid`."""
        for job in jobs:
            if job.name in self._jobs:
                message = f"two jobs are called {job.name}"
                raise ValueError(message)
            if job.schedule:
                schedule = parse(job.schedule, self._timezone)
                later = timedelta(seconds=job.spread) * share(self._host, job.name)
                self._schedules[job.name] = replace(schedule, later=later)
            self._jobs[job.name] = job

    def all(self) -> Sequence[Job]:
        """Return every job, in the order in which they were added."""
        return tuple(self._jobs.values())

    def checks(self) -> Sequence[Check]:
        """Return a check for each job that has one: how its last run ended."""
        jobs = [job for job in self._jobs.values() if job.has_check]
        return [Check(f"job.{job.name}", partial(self._probe, job)) for job in jobs]

    async def start(self, name: str, trigger: Trigger = "command", *, options: frozenset[str] = frozenset()) -> str:
        """Start a run now and return its id; it is on disk then. `options` are the job's own (`Run.options`).

        Raises `UnknownJob`, `AlreadyRunning`, `AgentStopping` or `StateUnavailable`.
        """
        job = self._jobs.get(name)
        if job is None:
            raise UnknownJob(job=name)
        await self._recover()
        return await self._runner.start(self._in_time(job), trigger, options=options)

    async def cancel(self, run_id: str) -> bool:
        """Ask a run to stop; return whether it was under way. It ends as `cancelled`, soon."""
        return self._runner.cancel(run_id)

    def next_times(self) -> list[tuple[str, datetime]]:
        """Return when each job with a schedule runs next (UTC), soonest first."""
        now = self._clock.read()
        times = []
        for name, schedule in self._schedules.items():
            entry = self._entries.get(name)
            action = Wait(schedule.next(now.wall)) if entry is None else decide(entry, now, host=self._host)[1]
            match action:
                case Wait(until):
                    times.append((name, until))
                case Skip():
                    times.append((name, schedule.next(now.wall)))
                case Start():
                    times.append((name, now.wall))
        return sorted(times, key=lambda pair: pair[1])

    def last(self, job: str) -> RunRecord | None:
        """Return the last run of a job that has ended."""
        return self._last.get(job)

    async def history(self, *, job: str = "", limit: int = 50) -> list[RunRecord]:
        """Return the newest runs, of one job or of all; those under way with their progress."""
        await self._recover()
        return [self._runner.record(run.id) or run for run in await self._history.newest(job, limit)]

    def live(self) -> list[RunRecord]:
        """Return the runs that are under way or wait, in the order in which they were asked for."""
        return self._runner.live()

    async def get(self, run_id: str) -> RunRecord | None:
        """Return one run, or None where there is no such run (any more)."""
        await self._recover()
        return self._runner.record(run_id) or await self._history.get(run_id)

    async def watch(self, run_id: str) -> Watched | None:
        """Return one run as who follows it sees it, or None where there is no such run (any more).

        What it printed is known while it runs, and for a while after (`runner.WATCHED_RUNS`).
        """
        await self._recover()
        if (watched := self._runner.watched(run_id)) is not None:
            return watched
        record = await self._history.get(run_id)
        return None if record is None else Watched(record)

    async def run(self) -> None:
        """Start each job when it is due, until cancelled; then stop the runs that are under way. Begun again, go on.

        While state.db takes no writes nothing can be started; it is tried again at each turn.
        """
        self._runner.open()
        try:
            while True:
                self.pulse.beat()
                try:
                    pause = await self._turn()
                    self._note_failure(None)
                except StateUnavailable as error:
                    self._note_failure(error)
                    pause = self._longest()
                await self._clock.sleep(pause)
        except asyncio.CancelledError:
            await self.stop(STOP_SECONDS)
            raise

    async def stop(self, deadline: float) -> None:
        """Start nothing more and end what runs, within `deadline` seconds; see `Runner.stop`."""
        await self._runner.stop(deadline)

    async def _turn(self) -> float:
        """Do what is due; return the seconds until more is, or until a step of the clock must be seen."""
        await self._recover()
        pause = self._longest()
        for name in self._schedules:
            now = self._clock.read()
            entry, action = decide(self._entries[name], now, host=self._host)
            match action:
                case Wait(until):
                    pause = min(pause, (until - now.wall).total_seconds())
                case Skip(slot):
                    log.warning("jobs.slot_missed", job=name, slot=slot.isoformat())
                    await self._history.handle(name, entry.schedule.text, entry.handled)
                case Start(trigger, slot):
                    try:
                        await self._start_for(entry, trigger, slot)
                    except AgentStopping:  # the slot is for the next start
                        continue
            self._entries[name] = entry
        return pause

    def _in_time(self, job: Job) -> Job:
        """Return a job for a run that begins now: where it is to be over before the next slot, with that deadline.

        A slot that is all but here is the one after: it is dealt with by a run that is under way.
        """
        schedule = self._schedules.get(job.name)
        if schedule is None or not job.ends_before_next:
            return job
        now = self._clock.read().wall
        left = schedule.next(now + 2 * _BEFORE_NEXT) - now - _BEFORE_NEXT
        return replace(job, deadline=min(job.deadline, left.total_seconds()))

    def _longest(self) -> float:
        return about(self._clock.read(), LONGEST_SLEEP_SECONDS)

    async def _start_for(self, entry: Entry, trigger: Trigger, slot: datetime) -> None:
        try:
            await self._runner.start(self._in_time(self._jobs[entry.job]), trigger, entry.schedule.text, entry.handled)
        except AlreadyRunning as error:
            log.warning("jobs.slot_skipped", job=entry.job, slot=slot.isoformat(), error=error)
            await self._history.handle(entry.job, entry.schedule.text, entry.handled)

    async def _recover(self) -> None:
        """Once, before anything else: settle what an agent before this one left."""
        async with self._recovering:
            if self._recovered:
                return
            now = self._clock.read().wall
            interrupted = await self._history.recover(now)
            self._last = {run.job: run for run in await self._history.last()}
            await self._take_up_slots(now)
            self._recovered = True
        for run in interrupted:
            log.warning("jobs.run_interrupted", job=run.job, run_id=run.id, detail=run.detail)
            self.changes.publish(run)

    async def _take_up_slots(self, now: datetime) -> None:
        """Go on where the slots were left; a new or changed schedule has missed nothing."""
        known = await self._history.slots()
        for name, schedule in self._schedules.items():
            text, handled = known.get(name, ("", now))
            if text != schedule.text:
                handled = now
                await self._history.handle(name, schedule.text, now)
            self._entries[name] = Entry(name, schedule, catch_up=self._jobs[name].catch_up, handled=handled)

    def _changed(self, record: RunRecord) -> None:
        if record.ended:
            self._last[record.job] = record
        self.changes.publish(record)

    def _note_failure(self, failure: StateUnavailable | None) -> None:
        """Say once that nothing can be started, and once that it can again."""
        if failure is not None and not self._held_up:
            log.error("jobs.held_up", exc_info=failure)
        elif self._held_up and failure is None:
            log.info("jobs.going_on")
        self._held_up = failure is not None

    async def _probe(self, job: Job) -> Finding:
        return finding(job, self._last.get(job.name))
