"""One run for one repository: what waits in the inbox, one deployment, and one verdict for each attempt.

However many pushes came meanwhile, git is asked once; what is part of the commit that it reached is `included`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock
from homelab_agent.core.errors import AgentError, describe
from homelab_agent.core.jobs import Outcome, Run, RunRecord
from homelab_agent.core.privilege import AWAY
from homelab_agent.core.state import StateUnavailable
from homelab_agent.gitops.delivery import GOOD, Attempt, Verdict
from homelab_agent.gitops.deployment import Deployment, short
from homelab_agent.gitops.inbox import Inbox
from homelab_agent.gitops.moves import Move
from homelab_agent.gitops.settings import Repository

AWAY_MAX = 20
"""So many runs in a row go on by themselves that the root half was not there for, or went away from."""

AGAIN = "again"
"""In `Run.options`: also to a commit that was rolled back from."""

_CUT_SHORT = "it was asked to stop, or took too long"

log = journal.logger("gitops")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: `verdict` on the repository, `fates` on the commits that were pushed, `seconds` it took."""

    repository: Repository
    verdict: Verdict
    fates: Mapping[str, Verdict]
    seconds: float


class Listener(Protocol):
    """Who is told what becomes of a repository."""

    def began(self, repository: Repository, sha: str) -> None:
        """Hear that a push to `sha` is being worked on."""

    async def ended(self, ended: Ended) -> None:
        """Hear that a run has ended, and that its verdicts are on disk."""


@dataclass(frozen=True, slots=True)
class Left:
    """What a run leaves to be done once its end is on disk.

    The agent is to `restart`; or another run is to do what state.db did not take (`held_up`), or what the root half was
    not there for, in so many runs in a row (`away`).
    """

    restart: bool = False
    held_up: bool = False
    away: int = 0


class Sync:
    """The runs of one repository.

    Cancelled by a person or too late, a run gives its verdicts all the same, when the root half has ended what it did;
    when the agent stops, it leaves all to be taken up. `busy` says that one is under way.
    """

    def __init__(self, deployment: Deployment, inbox: Inbox, listener: Listener, clock: Clock) -> None:
        self.repository = deployment.repository
        self.busy = False
        self._deployment = deployment
        self._inbox = inbox
        self._listener = listener
        self._clock = clock
        self._away = 0
        self._taken: list[Attempt] = []
        """What the sync that is under way is for."""

    async def run(self, run: Run) -> tuple[Outcome, Left]:
        """Deploy what was pushed; raises `StateUnavailable`, and what it leaves open then is for another run."""
        return await self._unless_cancelled(run, self._work(run), self._give_up)

    async def roll_back(self, run: Run) -> tuple[Outcome, Left]:
        """Go back to the last good commit before the present one; raises `StateUnavailable`."""
        return await self._unless_cancelled(run, self._back(run), self._give_up_going_back)

    async def never_began(self, record: RunRecord) -> None:
        """End what had come for a sync that was cancelled while it waited; what is under way is another run's.

        Raises `StateUnavailable`.
        """
        found = await self._inbox.open_attempts(self.repository.name)
        came = [one for one in found if record.ended_at and one.opened_at <= record.ended_at]
        if left := [one for one in came if one not in self._taken]:
            await self._end(record.id, left)

    async def _unless_cancelled(
        self, run: Run, work: Coroutine[None, None, tuple[Outcome, Left]], give_up: Callable[[Run], Awaitable[None]]
    ) -> tuple[Outcome, Left]:
        """Do `work` while the run is not asked to stop; if it is, end what was begun, unless the agent stops."""
        self.busy = True
        task = asyncio.create_task(work)
        asked = asyncio.ensure_future(run.cancelled.wait())
        try:
            await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
            task.cancel()
            await _over(task, run)
            if not task.cancelled():
                return task.result()
            if run.stopping:
                return Outcome(ok=False, detail="the agent stops; its next start goes on"), Left()
            giving_up = asyncio.ensure_future(give_up(run))
            await _over(giving_up, run)
            giving_up.result()
            return Outcome(ok=False, detail=_CUT_SHORT), Left()
        finally:
            asked.cancel()
            task.cancel()
            self.busy, self._taken = False, []

    async def _give_up(self, run: Run) -> None:
        await self._abandon()
        await self._end(run.id, self._taken or await self._inbox.open_attempts(self.repository.name))

    async def _give_up_going_back(self, run: Run) -> None:
        await self._abandon()
        repair = f"homelab-agent gitops rollback {self.repository.name}"
        await self._conclude(run.id, [], Verdict("interrupted", _CUT_SHORT, repair), {}, 0.0)

    async def _abandon(self) -> None:
        await self._inbox.close([])  # a write, so that what was being written when it was cancelled is on disk after it
        await self._deployment.abandon(_CUT_SHORT)

    async def _end(self, run_id: str, attempts: Sequence[Attempt]) -> None:
        """End attempts for which nothing more is done."""
        verdict = Verdict("interrupted", _CUT_SHORT, f"homelab-agent gitops sync {self.repository.name}")
        await self._conclude(run_id, attempts, verdict, {one.after: verdict for one in attempts}, 0.0)

    async def _work(self, run: Run) -> tuple[Outcome, Left]:
        began = self._clock.read().monotonic
        away, self._away = self._away, 0
        taken = self._taken = await self._inbox.open_attempts(self.repository.name)
        pushed = list(dict.fromkeys(attempt.after for attempt in taken))
        if pushed:
            self._listener.began(self.repository, pushed[-1])
        is_one = len(pushed) == 1 and run.trigger in {"webhook", "catch-up"}
        crash: Exception | None = None
        try:
            if AGAIN in run.options:
                await self._deployment.forgive()
            asked = pushed[0] if is_one else ""
            verdict = await self._deployment.deploy(run, asked, insists=partial(_insists, run, taken))
        except StateUnavailable:
            raise
        except AWAY as error:
            self._away = away + 1
            verdict = self._unfinished(error)
        except Exception as error:  # noqa: BLE001 - an attempt must end; the run raises it after that
            verdict, crash = Verdict("not_available", describe(error), "journalctl -u homelab-agent"), error
        fates = await self._fates(pushed, verdict)
        await self._conclude(run.id, taken, verdict, fates, self._since(began, run))
        if crash is not None:
            raise crash
        outcome = Outcome(verdict.word in GOOD, f"{verdict.word}: {verdict.detail}", verdict.repair)
        return outcome, Left(restart=self.repository.restart_agent and verdict.word == "ok", away=self._away)

    async def _back(self, run: Run) -> tuple[Outcome, Left]:
        began = self._clock.read().monotonic
        away, self._away = self._away, 0
        try:
            verdict = await self._deployment.roll_back(run)
        except AWAY as error:
            self._away = away + 1
            verdict = self._unfinished(error)
        fates = {verdict.sha_asked: verdict} if verdict.word == "rolled_back" else {}
        await self._conclude(run.id, [], verdict, fates, self._since(began, run))
        return Outcome(verdict.word == "rolled_back", verdict.detail, verdict.repair), Left(away=self._away)

    def _since(self, began: float, run: Run) -> float:
        """Return how many seconds of its own a run has taken."""
        return self._clock.read().monotonic - began - run.waited

    def _unfinished(self, error: AgentError) -> Verdict:
        """Return the verdict of a run that the root half was not there for; how it goes on is said with it."""
        if self._away <= AWAY_MAX:
            goes_on = "it goes on by itself when that is there again"
        else:
            goes_on = f"so it was {self._away} times in a row, and is tried again with the next push, or when asked"
        return Verdict("not_available", f"{error}; {goes_on}", error.repair)

    async def _fates(self, pushed: Sequence[str], verdict: Verdict) -> dict[str, Verdict]:
        """Return what becomes of the commits that were pushed when the repository's verdict is this."""
        reached = verdict.sha_reached
        fates = dict.fromkeys(pushed, verdict)
        others = [sha for sha in fates if sha != reached] if verdict.word in GOOD else []
        if not others:
            return fates
        try:
            parts = await self._deployment.contained(reached, others)
        except AgentError as error:
            unknown = f"whether {{}} is part of it is unknown: {error}"
            return fates | {sha: _also(verdict, unknown.format(short(sha))) for sha in others}
        included = replace(verdict, word="included", detail=f"included in {reached}")
        for sha in others:
            fates[sha] = included if sha in parts else _also(verdict, f"{short(sha)} is not part of it")
        return fates

    async def _conclude(
        self,
        run_id: str,
        attempts: Sequence[Attempt],
        verdict: Verdict,
        fates: Mapping[str, Verdict],
        seconds: float,
    ) -> None:
        """Put the verdicts on disk, all at once, and tell who listens."""
        await self._inbox.close(
            [(one, replace(fates[one.after], sha_asked=one.after, run_id=run_id)) for one in attempts]
        )
        tell = log.info if verdict.word in GOOD else log.warning
        tell(
            "gitops.verdict",
            repository=self.repository.name,
            verdict=verdict.word,
            detail=verdict.detail,
            repair=verdict.repair,
            sha=verdict.sha_reached,
            attempts=len(attempts),
            seconds=round(seconds, 3),
        )
        await self._listener.ended(Ended(self.repository, verdict, fates, seconds))


async def _over(work: asyncio.Future[Any], run: Run) -> None:
    """Wait until it is over, also when somebody tires of waiting for us; but not when the agent stops."""
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError:
            if run.stopping:
                raise


def _insists(run: Run, attempts: Sequence[Attempt], failed: Move) -> bool:
    """Return whether what failed before is to be tried again: for a person who asks, or has it delivered once more.

    In a run that catches up only where that was after the failure: else this is what came of it.
    """
    again = [attempt for attempt in attempts if attempt.again]
    match run.trigger:
        case "command":
            return True
        case "webhook" | "schedule":
            return bool(again)
        case "catch-up":
            return any(failed.ended_at is not None and attempt.opened_at >= failed.ended_at for attempt in again)


def _also(verdict: Verdict, more: str) -> Verdict:
    """Return a verdict that says this, too."""
    return replace(verdict, detail=f"{verdict.detail}; {more}")
