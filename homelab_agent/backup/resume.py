"""Letting containers run again that a backup has frozen: again and again until they do, whatever ends meanwhile.

It looks, acts and looks again, so it may be done twice, by two, and after anything: a container that runs already is
left as it is, one that was made anew is found by its identity. What was asked of Docker by a run that was killed may
still be under way: a container that is being stopped runs until it has ended. So one that runs although it was to be
frozen is watched for as long as that may take, before it is believed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from homelab_agent.backup.control import Control
from homelab_agent.backup.frozen import Entry, Frozen, Held, RecordsUnusable
from homelab_agent.backup.inventory import Container
from homelab_agent.core import journal
from homelab_agent.core.errors import AgentError, describe

What: TypeAlias = Literal[
    "paused", "stopped", "killed", "unpaused", "started", "runs", "left_alone", "gone", "unhealthy", "not_yet"
]

log = journal.logger("backup")


class NotResumed(AgentError):
    """Frozen for a backup, and not resumed: {names}."""

    repair = "homelab-agent backup resume"


@dataclass(frozen=True, slots=True)
class Notice:
    """What became of a container.

    killed: it did not end by itself (exit code 137). runs: it did already when it was to be resumed. left_alone:
    somebody else has done something to it meanwhile, `detail` says what. gone: it was removed. unhealthy: it runs, and
    its check does not say that it is well. not_yet: it is tried again.
    """

    what: What
    name: str
    detail: str = ""


Tell: TypeAlias = Callable[[Notice], None]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one goes on, in seconds: with resuming at all, until the next try, with a container's health.

    `settle` is how long Docker may take for what it was asked before its asker was lost, beside a stop's own time.
    """

    resume: float = 300.0
    again: float = 1.0
    health: float = 120.0
    settle: float = 2.0
    look: float = 0.1


PATIENCE = Patience()


def no_one(notice: Notice) -> None:
    """Tell nobody."""


async def resume_all(
    control: Control,
    frozen: Frozen,
    *,
    leave: Callable[[Entry], bool] = lambda _: False,
    tell: Tell = no_one,
    patience: Patience = PATIENCE,
) -> Sequence[Entry]:
    """Resume whatever a run has left frozen that is no more, and return what that was.

    What a living run holds stays, and what `leave`, which may block, says of. Raises `NotResumed` where that does not
    succeed in time; the entries stay then.
    """
    held = []
    for one in await frozen.take():
        if await asyncio.to_thread(leave, one.entry):
            await frozen.release(one)
        else:
            held.append(one)
    await Resuming(control, frozen, tell=tell, patience=patience).run(held)
    return [one.entry for one in held]


class Resuming:
    """Resumes containers; `found` has by container what it did before (Docker's word, or gone), `at` when it ran."""

    def __init__(
        self, control: Control, frozen: Frozen, *, tell: Tell, patience: Patience, certain: Collection[str] = ()
    ) -> None:
        """Of the containers that are `certain` Docker has said that they are frozen: nothing is under way for them."""
        self.found: dict[str, str] = {}
        self.at: dict[str, float] = {}
        self._control = control
        self._frozen = frozen
        self._tell = tell
        self._patience = patience
        self._certain = certain

    async def run(self, held: Sequence[Held]) -> None:
        """Resume them, those first that others depend on; raises `NotResumed` and lets go of what is left."""
        left = {one.entry.file: one for one in sorted(held, key=lambda one: -one.entry.order)}
        end = _now() + self._patience.resume
        try:
            while left:
                causes = await self._round(left)
                if left and _now() > end:
                    names = ", ".join(one.entry.name for one in left.values())
                    raise NotResumed(names=names, cause="; ".join(dict.fromkeys(causes)))
                if left:
                    await asyncio.sleep(self._patience.again)
        finally:
            for one in left.values():
                await self._frozen.release(one)

    async def _round(self, left: dict[str, Held]) -> list[str]:
        """Try each once and take what runs out of `left`; return why the others do not."""
        causes, watched, checked = [], [], []
        for one in list(left.values()):
            try:
                match await self._resume(one.entry), one.entry.how:
                    case "runs", _ if self._may_change(one):
                        watched.append(one)
                    case (("started" | "runs"), _) if one.entry.awaited:
                        await self._check(one)
                        await self._done(one, left)
                    case (("started" | "unpaused" | "runs"), _):
                        checked.append(one)
                    case _:
                        await self._done(one, left)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next container is not to stand still for it
                causes.append(self._failed(one.entry, error))
        follow = [*map(self._watch, watched), *map(self._check, checked)]
        results = await asyncio.gather(*follow, return_exceptions=True)
        for one, result in zip([*watched, *checked], results, strict=True):
            if isinstance(result, Exception):
                causes.append(self._failed(one.entry, result))
            elif result is not None:  # it does not run yet: what was under way has taken place
                causes.append("it was still being frozen")
            else:
                await self._done(one, left)
        return causes

    async def _resume(self, entry: Entry) -> What:
        """Do what is to be done, and return that."""
        container = await self._look(entry)
        state = container.state if container is not None else "gone"
        self.found.setdefault(entry.container, state)
        match state, entry.how:
            case "gone", _:
                what: What = "gone"
            case "running", _:
                what = "runs"
            case "paused", "paused" if container is not None:
                await self._control.unpause(container.id)
                what = "unpaused"
            case (("exited" | "created"), "stopped") if container is not None:
                await self._control.start(container.id)
                what = "started"
            case _:
                what = "left_alone"
        self.at.setdefault(entry.container, _now())
        self._say(what, entry, state if what == "left_alone" else "")
        return what

    async def _look(self, entry: Entry) -> Container | None:
        found = await self._control.container(entry.container)
        if found is None and entry.identity.name:
            found = await self._control.find(entry.identity)
        return found

    def _may_change(self, one: Held) -> bool:
        return one.of_this_boot and one.entry.container not in self._certain

    async def _watch(self, one: Held) -> bool | None:
        """Look whether a container that runs goes on doing so; return False where it does not."""
        entry = one.entry
        longest = self._patience.settle + (entry.stop_seconds if entry.how == "stopped" else 0)
        end = _now() + longest
        while _now() < end:
            found = await self._look(entry)
            if found is None or found.state != "running":
                return False
            if entry.started_at and found.started_at != entry.started_at:
                return None  # it was started since, so what was under way is over
            await asyncio.sleep(self._patience.look)
        return None

    async def _check(self, one: Held) -> None:
        """Wait until its check says that it is well, where it did so before; say where it does not."""
        entry = one.entry
        found = await self._look(entry) if entry.health in {"healthy", "starting"} else None
        if found is not None and not await self._control.wait_healthy(found.id, seconds=self._patience.health):
            self._say("unhealthy", entry, f"not within {self._patience.health:g} s")

    async def _done(self, one: Held, left: dict[str, Held]) -> None:
        del left[one.entry.file]
        try:
            await self._frozen.remove(one)
        except RecordsUnusable as error:  # it runs, which is what counts; the next who resumes finds it so
            log.warning("backup.entry_left", container=one.entry.name, cause=str(error))

    def _failed(self, entry: Entry, error: Exception) -> str:
        cause = describe(error)
        self._say("not_yet", entry, cause)
        return cause

    def _say(self, what: What, entry: Entry, detail: str = "") -> None:
        tell = log.warning if what in {"unhealthy", "gone", "not_yet", "left_alone"} else log.info
        tell("backup.resume", container=entry.name, what=what, set=entry.set_name, detail=detail)
        self._tell(Notice(what, entry.name, detail))


def _now() -> float:
    return asyncio.get_running_loop().time()
