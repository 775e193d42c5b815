"""One run of a job, and what is known about it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from homelab_agent.core.errors import AgentError, Exit, describe
from homelab_agent.core.health import Finding

Trigger: TypeAlias = Literal["schedule", "webhook", "command", "catch-up"]
RunState: TypeAlias = Literal["waiting", "running", "ok", "failed", "cancelled", "interrupted", "timed_out"]


DETAIL_MAX = 4000
"""So many characters of what a run says are kept."""

CONTAINERS = "containers"
"""In `Job.uses`: it starts, stops or changes containers."""


class UnknownJob(AgentError):
    """There is no job called {job}."""

    repair = "homelab-agent jobs list"
    exit_code = Exit.USAGE


class AlreadyRunning(AgentError):
    """The job {job} is {state} already, as run {run}."""

    repair = "homelab-agent jobs follow {run}"
    exit_code = Exit.BUSY


class AgentStopping(AgentError):
    """The agent is about to stop and starts nothing more."""

    repair = "Ask again when it is back: homelab-agent status"
    exit_code = Exit.BUSY


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, by its own account: `detail` in words, `repair` a command or a configuration key."""

    ok: bool
    detail: str
    repair: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: `done` of `total` (None: not known) in `unit` ("bytes", "files")."""

    done: float
    total: float | None
    unit: str
    note: str = ""


@dataclass(slots=True)
class Run:
    """What a job's function is given.

    When `cancelled` is set it should return soon, with an `Outcome` that says how far it came; after a grace
    it is cancelled hard. With `stopping` that is because the agent stops: the rest may be left to its next start.
    """

    id: str
    job: str
    trigger: Trigger
    on_progress: Callable[[Progress], None]
    on_line: Callable[[str], None]
    on_use: Callable[[frozenset[str]], AbstractAsyncContextManager[None]]
    options: frozenset[str] = frozenset()
    """What who asked for it wants besides, in words that the job knows."""
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: bool = False
    waited: float = 0.0
    """How many seconds it has waited in its middle for others."""

    def progress(self, done: float, total: float | None, unit: str, note: str = "") -> None:
        """Say how far the run is; call it as often as you like, from the event loop's thread."""
        self.on_progress(Progress(done, total, unit, note))

    def say(self, line: str) -> None:
        """Print a line, from the event loop's thread: who follows the run reads it, and nothing records it.

        A secret that the agent knows must be masked by then, as in all that comes from elsewhere.
        """
        self.on_line(line)

    def using(self, uses: frozenset[str]) -> AbstractAsyncContextManager[None]:
        """Use what others must not use meanwhile for as long as the context lasts, not for all of the run (`Job.uses`).

        Those who use it, or have asked for it before, are waited for: that is told as `waits_for`, and takes none of
        the run's time. Nobody who uses it may have to wait for what we use already: the containers come last.
        """
        return self.on_use(uses)


@dataclass(frozen=True, slots=True)
class Job:
    """Something that runs on a schedule ("every 6 hours", "15 3 * * *", "" for on demand only) or when asked.

    Runs whose `uses` meet never overlap. With `catch_up` a slot missed while the host was off or asleep is
    made up for once. `deadline` in seconds that it runs, not counting what it waits for others. With `spread` each slot
    is later by up to so many seconds, on one host always as many. With `ends_before_next` the deadline is earlier where
    it must be for a run to be over before the next slot. One without `has_check` says itself, by a check of
    its room, what its last run left wrong.
    """

    name: str
    run: Callable[[Run], Awaitable[Outcome]]
    deadline: float
    schedule: str = ""
    catch_up: bool = False
    spread: float = 0.0
    ends_before_next: bool = False
    uses: frozenset[str] = frozenset()
    description: str = ""
    has_check: bool = True


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What is known of a run; a new one is published for every change. Times are aware, in UTC.

    `waits_for` names the job whose run must end first.
    """

    id: str
    job: str
    trigger: Trigger
    state: RunState
    requested_at: datetime
    detail: str = ""
    repair: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    progress: Progress | None = None
    waits_for: str = ""

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self.state not in {"waiting", "running"}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run is recorded."""

    state: RunState
    detail: str
    repair: str = ""


Asked: TypeAlias = Literal["", "cancelled", "timed_out"]


def judge(job: Job, asked: Asked, outcome: Outcome | None, error: BaseException | None) -> Ending:
    """Return how a run ended that was `asked` to stop or not, and returned `outcome` or raised `error`.

    Work that is complete is ok, even if it was asked to stop meanwhile. What it says is fit to be recorded.
    """
    said = recordable(outcome.detail) if outcome is not None else ""
    repair = recordable(outcome.repair) if outcome is not None else ""
    if outcome is not None and outcome.ok:
        return Ending("ok", said, repair)
    match asked:
        case "cancelled":
            return Ending("cancelled", said or "was asked to stop", repair)
        case "timed_out":
            late = f"not done within {job.deadline:g} s"
            return Ending("timed_out", f"{late}; {said}" if said else late, repair)
        case "":
            if error is None:
                return Ending("failed", said, repair)
            repair = recordable(error.repair) if isinstance(error, AgentError) else ""
            return Ending("failed", recordable(describe(error)), repair)


def recordable(text: str) -> str:
    """Return `text` as SQLite and PostgreSQL both take it: UTF-8, no NUL, not longer than `DETAIL_MAX`."""
    fit = text.encode("utf-8", "replace").decode().replace("\0", "")
    return fit if len(fit) <= DETAIL_MAX else fit[: DETAIL_MAX - 1] + "…"


def finding(job: Job, last: RunRecord | None) -> Finding:
    """Return what a job's last run says about its health; one that was cancelled on purpose is no fault."""
    if last is None or last.ended_at is None:
        return Finding.ok("has not run yet")
    when = f"{last.ended_at:%Y-%m-%d %H:%M} UTC"
    said = f"{last.state.replace('_', ' ')} {when}" + (f": {last.detail}" if last.detail else "")
    if last.state in {"ok", "cancelled"}:
        return Finding.ok(said)
    return Finding.degraded(said, last.repair or f"homelab-agent jobs run {job.name}")


def as_options(given: Mapping[str, object]) -> frozenset[str]:
    """Return what a run is given as its options; what is empty is left out."""
    return frozenset(f"{key}={value}" for key, value in given.items() if value)


def of_options(options: frozenset[str]) -> dict[str, str]:
    """Return what a run was given, by its options."""
    return dict(word.partition("=")[::2] for word in options)
