"""Keeping containers still while their files are read: each noted on disk first, all resumed whatever happens.

Who depends on others is frozen before them and resumed after them: `ordered`. What somebody else has paused or stopped
stays so. While a container is being frozen we are not cancelled, for Docker would go on with it behind our back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from homelab_agent.backup.control import Control
from homelab_agent.backup.frozen import Entry, Frozen, Held
from homelab_agent.backup.inventory import Container
from homelab_agent.backup.point import Verdict
from homelab_agent.backup.resume import PATIENCE, Notice, Patience, Resuming, Tell, What, no_one
from homelab_agent.core import journal, waiting
from homelab_agent.core.errors import AgentError

Mode: TypeAlias = Literal["pause", "stop"]
KILLED = 137
"""The exit code of what SIGKILL has ended: 128 + 9."""

log = journal.logger("backup")


class FrozenTooLong(AgentError):
    """The containers of {set_name} stood still for {seconds:g} s, which is all they may; they were resumed.

    What was read is thrown away.
    """

    repair = (
        "Give the set more time (freeze_budget), another mode (dump), or leave out what need not be read (exclude)."
    )


class KeepsRestarting(AgentError):
    """The container {name} ends and is started again all the time; it cannot be kept still."""

    repair = "docker logs {name}; then mend it, or stop it: docker stop {name}"


class StopWouldRemove(AgentError):
    """The container {name} is removed when it ends (--rm); it is not stopped for a backup."""

    repair = 'Choose mode = "pause" for its set, or start it without --rm.'


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be frozen, and for whom; `signals` end a container where its image's own signal would not do."""

    containers: Sequence[Container]
    mode: Mode
    set_name: str
    run_id: str = ""
    budget_seconds: float = 30.0
    signals: Mapping[str, str] = field(default_factory=dict)


class Freeze:
    """Containers that stand still. What is here is whole when the context has ended."""

    def __init__(self, order: Order) -> None:
        self.killed: list[str] = []
        """Names of those that did not end in order: what they wrote last may be missing."""
        self.stirred: list[str] = []
        """Names of those that did not stand still all the time: somebody, or a restart of Docker, let them run."""
        self.milliseconds: dict[str, float] = {}
        """How long each has stood still, by its name."""
        self.paused_by_others = False
        """Whether one of them stood still already: what it wrote is as after a power cut, also where others ended."""
        self.stays = False
        """Whether they are to stay as they are, noted for whoever resumes them later."""
        self._mode = order.mode

    @property
    def verdict(self) -> Verdict:
        """How consistent is what was read meanwhile."""
        if self.killed or self.stirred:
            return "dirty"
        return "cold" if self._mode == "stop" and not self.paused_by_others else "crash"


@asynccontextmanager
async def frozen(
    control: Control, records: Frozen, order: Order, *, tell: Tell = no_one, patience: Patience = PATIENCE
) -> AsyncIterator[Freeze]:
    """Keep containers still while the context lasts, at most for the order's budget.

    Raises `FrozenTooLong` in the body then, with all resumed at once; `NotResumed` where a container could not be
    resumed, which stays noted; `RecordsUnusable`, `HeldByAnother`, `KeepsRestarting`, `StopWouldRemove` and what
    Docker says, with none frozen.
    """
    work = _Freezing(control, records, order, tell, patience)
    over = asyncio.Event()
    resuming: Awaitable[None] | None = None
    try:
        await work.freeze()
        resuming = asyncio.create_task(work.resume_after(over), name="resume")
        limit = asyncio.timeout_at(work.deadline)
        try:
            async with limit:
                yield work.result
        except Exception:
            if not limit.expired():
                raise
        if limit.expired():  # also where the body has made something else of being cancelled
            raise work.too_long()
    finally:
        over.set()
        await waiting.to_the_end(work.resume() if resuming is None else resuming)


class _Freezing:
    """One freeze, from the first container that is looked at to the last that runs again."""

    def __init__(self, control: Control, records: Frozen, order: Order, tell: Tell, patience: Patience) -> None:
        self.result = Freeze(order)
        self.deadline: float | None = None
        self._control = control
        self._records = records
        self._order = order
        self._tell = tell
        self._patience = patience
        self._held: list[Held] = []
        self._still: list[Container] = []
        self._certain: set[str] = set()
        self._since: dict[str, float] = {}

    async def freeze(self) -> None:
        """Freeze what runs, all or none: who calls resumes when this raises."""
        for number, container in enumerate(ordered(self._order.containers)):
            await waiting.to_the_end(self._freeze(container.id, number))
            if self.deadline is not None and _now() > self.deadline:
                raise self.too_long()

    async def resume_after(self, over: asyncio.Event) -> None:
        """Resume when `over` is set, or the time is up."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self.deadline):
                await over.wait()
        await self.resume()

    async def resume(self) -> None:
        """Resume what was frozen, and see whether it stood still until now; or leave it, where it `stays`."""
        if self.result.stays:
            for one in self._held:
                await self._records.release(one)
            return
        resuming = Resuming(
            self._control, self._records, tell=self._tell, patience=self._patience, certain=self._certain
        )
        looking = asyncio.create_task(self._stirring(), name="look")
        try:
            await resuming.run(self._held)
        finally:
            self.result.stirred += await looking
            for entry in (one.entry for one in self._held):
                if entry.container in resuming.at:
                    seconds = resuming.at[entry.container] - self._since[entry.container]
                    self.result.milliseconds[entry.name] = round(1000 * seconds, 1)
                if entry.container in self._certain and not _stood_still(entry, resuming.found):
                    self.result.stirred.append(entry.name)

    def too_long(self) -> FrozenTooLong:
        """Return what is raised when the time is up."""
        return FrozenTooLong(set_name=self._order.set_name, seconds=self._order.budget_seconds)

    async def _freeze(self, container_id: str, number: int) -> None:
        found = await self._control.container(container_id)
        if found is not None and found.state == "restarting":
            raise KeepsRestarting(name=found.name)
        if found is None or not found.running:
            self._still += [found] if found is not None else []
            self.result.paused_by_others |= found is not None and found.state == "paused"
            return
        if self._order.mode == "stop" and found.auto_remove:
            raise StopWouldRemove(name=found.name)
        held = await self._records.note(self._entry(found, number))
        self._held.append(held)
        self._since[found.id] = _now()
        if self.deadline is None:
            self.deadline = _now() + self._order.budget_seconds
        if self._order.mode == "pause":
            await self._control.pause(found.id)
        else:
            signal = self._order.signals.get(found.id, "")
            await self._control.stop(found.id, seconds=found.stop_seconds, signal=signal)
        self._certain.add(found.id)
        self._say("paused" if self._order.mode == "pause" else "stopped", found)
        if self._order.mode == "stop":
            await self._see_how_it_ended(found)

    async def _see_how_it_ended(self, container: Container) -> None:
        ended = await self._control.container(container.id)
        if ended is not None and ended.exit_code == KILLED:
            self.result.killed.append(container.name)
            self._say("killed", container)

    async def _stirring(self) -> list[str]:
        """Return the names of those that did not run at first, and do now, or of which that cannot be said."""
        stirred = []
        for container in self._still:
            try:
                now = await self._control.container(container.id)
            except AgentError:
                stirred.append(container.name)
            else:
                stirred += [container.name] if now is not None and now.state in {"running", "restarting"} else []
        return stirred

    def _entry(self, container: Container, number: int) -> Entry:
        return Entry(
            container=container.id,
            how="paused" if self._order.mode == "pause" else "stopped",
            identity=container.identity,
            image_id=container.image_id,
            health=container.health,
            started_at=container.started_at,
            stop_seconds=container.stop_seconds,
            order=number,
            awaited=any(_awaits(one, container) for one in self._order.containers),
            set_name=self._order.set_name,
            run_id=self._order.run_id,
        )

    def _say(self, what: What, container: Container) -> None:
        tell = log.warning if what == "killed" else log.info
        tell("backup.freeze", container=container.name, what=what, set=self._order.set_name)
        self._tell(Notice(what, container.name))


def ordered(containers: Sequence[Container]) -> list[Container]:
    """Return them so that each comes before those that it depends on, by Compose's labels; else as they are."""
    by_service: dict[tuple[str, str], list[Container]] = {}
    for one in containers:
        by_service.setdefault((one.identity.project, one.identity.service), []).append(one)
    seen: set[str] = set()
    found: list[Container] = []

    def visit(one: Container) -> None:
        if one.id not in seen:
            seen.add(one.id)
            for service in one.depends_on:
                for other in by_service.get((one.identity.project, service), ()):
                    visit(other)
            found.append(one)

    for one in reversed(containers):
        visit(one)
    return found[::-1]


def _awaits(one: Container, other: Container) -> bool:
    condition = one.depends_on.get(other.identity.service, "")
    return one.identity.project == other.identity.project and condition == "service_healthy"


def _stood_still(entry: Entry, found: Mapping[str, str]) -> bool:
    state = found.get(entry.container, "")
    return state == "paused" if entry.how == "paused" else state == "exited"


def _now() -> float:
    return asyncio.get_running_loop().time()
