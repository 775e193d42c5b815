"""Starts the runs: for what waits in the inbox, for what an earlier agent left, for what polling found.

Of each repository one run is under way at most. What comes meanwhile waits in the inbox, and is one further run's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from contextlib import suppress

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock, about
from homelab_agent.core.errors import AgentError
from homelab_agent.core.jobs import AgentStopping, AlreadyRunning, Jobs, Outcome, Run, RunRecord
from homelab_agent.core.jobs.run import Trigger
from homelab_agent.core.privilege import Privileged
from homelab_agent.core.state import StateUnavailable
from homelab_agent.core.waiting import is_set
from homelab_agent.gitops.delivery import Verdict
from homelab_agent.gitops.inbox import Inbox
from homelab_agent.gitops.moves import Moves
from homelab_agent.gitops.sync import AWAY_MAX, Left, Sync
from homelab_agent.gitops.working_copy import WorkingCopy

JOB = "gitops.sync."
ROLLBACK_JOB = "gitops.rollback."
AGAIN_SECONDS = 30.0
"""How long after a run could not be started, or could not go on, that is tried again."""
AGAIN_MOST_SECONDS = 300.0
"""The longest pause between two looks whether the root half is there again; each is twice the one before."""

_GONE = "the repository is no longer in the configuration"

log = journal.logger("gitops")


class Worker:
    """Wakes the jobs of the repositories; `run` is a task of the agent."""

    def __init__(
        self,
        syncs: Mapping[str, Sync],
        copies: Mapping[str, WorkingCopy],
        inbox: Inbox,
        moves: Moves,
        privileged: Privileged,
        jobs: Jobs,
        clock: Clock,
    ) -> None:
        self._syncs = syncs
        self._copies = copies
        self._inbox = inbox
        self._moves = moves
        self._privileged = privileged
        self._jobs = jobs
        self._clock = clock
        self._asked: dict[str, Trigger] = {}
        self._starting: dict[str, Trigger] = {}
        self._left: dict[str, Left] = {}
        """What runs that have begun leave to be done, until we hear that their end is on disk."""
        self._later: dict[str, asyncio.Task[None]] = {}
        self._restart_for = ""
        self._more = asyncio.Event()
        self._looked = False

    def wake(self, name: str, trigger: Trigger = "webhook") -> None:
        """Have a repository synced as soon as it can be; by webhook only if something waits in the inbox then."""
        self._ask(name, trigger)
        self._more.set()

    def is_busy(self, name: str) -> bool:
        """Return whether a run of the repository is under way, or asked for."""
        return self._syncs[name].busy or name in self._asked or name in self._starting

    def goes_on_later(self, name: str) -> bool:
        """Return whether what a run of the repository could not do is to be done by another, after a while."""
        return name in self._later

    async def sync(self, name: str, run: Run) -> Outcome:
        """Do a sync of a repository, as its job."""
        return await self._noting_what_is_left(run, self._syncs[name].run(run))

    async def roll_back(self, name: str, run: Run) -> Outcome:
        """Do a rollback of a repository, as its job."""
        return await self._noting_what_is_left(run, self._syncs[name].roll_back(run))

    async def run(self) -> None:
        """Start what is asked for, until cancelled; first what an earlier agent left."""
        self._looked = False
        self._later.clear()
        with self._jobs.changes.subscribe() as changes:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(changes, group), name="gitops.runs")
                while True:
                    self._more.clear()
                    await self._start_all()
                    await self._restart_when_free()
                    await self._until_more()

    async def _noting_what_is_left(self, run: Run, work: Awaitable[tuple[Outcome, Left]]) -> Outcome:
        self._left[run.id] = Left()
        try:
            outcome, self._left[run.id] = await work
        except StateUnavailable:
            self._left[run.id] = Left(held_up=True)
            raise
        return outcome

    def _ask(self, name: str, trigger: Trigger) -> None:
        if self._asked.get(name, "webhook") == "webhook":
            self._asked[name] = trigger

    async def _start_all(self) -> None:
        try:
            if not self._looked:
                await self._look()
                self._looked = True
            await self._start_asked()
        except StateUnavailable as error:
            log.warning("gitops.held_up", error=error)

    async def _start_asked(self) -> None:
        """Start what can be started; the rest stays asked for."""
        # Who wakes from now on may be too late for these runs, and is asked for anew.
        self._asked, self._starting = {}, self._asked
        try:
            waiting = await self._inbox.waiting() if "webhook" in self._starting.values() else {}
            for name, trigger in tuple(self._starting.items()):
                with suppress(AlreadyRunning, AgentStopping):
                    if trigger != "webhook" or name in waiting:
                        await self._jobs.start(JOB + name, trigger)
                    del self._starting[name]
        finally:
            for name, trigger in self._starting.items():
                self._ask(name, trigger)
            self._starting = {}

    async def _until_more(self) -> None:
        """Wait until something is asked for or a run has ended; while something cannot be done, not for long."""
        if self._asked or not self._looked:
            await is_set(self._more, self._clock, within=AGAIN_SECONDS)
        else:
            await self._more.wait()

    async def _look(self) -> None:
        """Ask for what was left open; end what is of no repository that is known today."""
        for name in await self._inbox.waiting():
            if name in self._syncs:
                self.wake(name, "catch-up")
            else:
                left = await self._inbox.open_attempts(name)
                await self._inbox.close([(attempt, Verdict("ignored", _GONE)) for attempt in left])
        for move in await self._moves.unfinished():
            if move.repository in self._syncs:
                self.wake(move.repository, "catch-up")
            else:
                await self._moves.end(move, "interrupted", _GONE)

    async def _listen(self, changes: asyncio.Queue[RunRecord], group: asyncio.TaskGroup) -> None:
        """Follow the runs: one that ends makes room for the next."""
        while True:
            record = await changes.get()
            if not record.ended:
                continue
            if self._restart_for:
                self._more.set()
            left = self._left.pop(record.id, None)
            for prefix in (JOB, ROLLBACK_JOB):
                name = record.job.removeprefix(prefix)
                if record.job != name and name in self._syncs:
                    await self._ended(name, record, left, group)

    async def _ended(self, name: str, record: RunRecord, left: Left | None, group: asyncio.TaskGroup) -> None:
        """See to what a run left to be done; None is one that never began."""
        if left is not None:
            self._go_on_later(name, left, group)
        elif record.job == JOB + name and record.state == "cancelled":
            try:
                await self._syncs[name].never_began(record)
            except StateUnavailable as error:
                log.warning("gitops.held_up", error=error)
            self._ask(name, "webhook")  # what came later, or by a clock that was set says so, has no run yet
        if left is not None and left.restart:
            self._restart_for = name
        if left is None or not left.held_up:
            self._more.set()

    def _go_on_later(self, name: str, left: Left, group: asyncio.TaskGroup) -> None:
        if (later := self._later.pop(name, None)) is not None:
            later.cancel()
        if left.held_up or 0 < left.away <= AWAY_MAX:
            self._later[name] = group.create_task(self._go_on(name, left.away), name=f"gitops.later {name}")

    async def _go_on(self, name: str, away: int) -> None:
        """Have what a run could not record, or could not do without a root half, done by another one when it may be."""
        pause = min(AGAIN_SECONDS * 2 ** max(0, away - 1), AGAIN_MOST_SECONDS)
        await self._clock.sleep(about(self._clock.read(), pause))
        while away and not await self._privileged.answers():
            pause = min(2 * pause, AGAIN_MOST_SECONDS)
            await self._clock.sleep(about(self._clock.read(), pause))
        del self._later[name]
        self.wake(name, "catch-up")

    async def _restart_when_free(self) -> None:
        """Restart the agent, if that is due, once no run of whatever job is cut short by it."""
        if not self._restart_for or self._asked or self._jobs.live():
            return
        name, self._restart_for = self._restart_for, ""
        log.info("gitops.restarting_agent", repository=name)
        try:
            await self._copies[name].restart_agent()
        except AgentError as error:
            log.warning("gitops.agent_not_restarted", repository=name, error=error)
