"""The secrets that change at one moment: all new values are tried, then all are adopted, or none is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias, TypeVar

from homelab_agent.core.clock import Clock
from homelab_agent.core.secret.errors import AdoptionIncomplete, SecretRefused
from homelab_agent.core.secret.origin import Reading
from homelab_agent.core.secret.secret import Held

T = TypeVar("T")
_New: TypeAlias = Sequence[tuple[Held, Reading]]


class Outcome(StrEnum):
    """What became of new values."""

    ADOPTED = "adopted"
    REFUSED = "refused"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class Change:
    """New values of one group: which references, in which version, what became of them, and why."""

    references: tuple[str, ...]
    version: str
    outcome: Outcome
    cause: str = ""


class Group:
    """`members` are the secrets of one group that somebody has asked for."""

    def __init__(self, clock: Clock, *, overlap: float, tell: Callable[[Change], Awaitable[None]]) -> None:
        """Accept an old value for `overlap` seconds more; `tell` hears of each change, of the same once."""
        self.members: list[Held] = []
        self._clock = clock
        self._overlap = overlap
        self._tell = tell
        self._told: Change | None = None
        self._changing = asyncio.Lock()
        self._under_way: set[asyncio.Task[bool]] = set()

    async def refresh(self, asked: Held) -> bool:
        """Read `asked`, and those that were read before; see `Secret.refresh`.

        It goes on to its end when the caller is cancelled: nobody may be left with an old value in the middle.
        """
        task = asyncio.get_running_loop().create_task(self._refresh(asked), name="secret")
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def _refresh(self, asked: Held) -> bool:
        since = self._clock.read().monotonic
        async with self._changing:
            wanted = [one for one in self.members if one.reading is not None or one is asked]
            fresh = await in_a_thread(lambda: _read(wanted, since))
            news = [(one, new) for one, new in fresh if one.reading is None or one.is_other(new)]
            await self._try([(one, new) for one, new in news if one.is_other(new)])
            await self._take(fresh, [(one, new) for one, new in fresh if not one.adopted or one.is_other(new)])
            return any(one is asked for one, _ in news)

    def _ended(self, task: asyncio.Task[bool]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked has it, unless it was cancelled meanwhile

    async def _try(self, changed: _New) -> None:
        for one, new in changed:
            one.proposed = new.value
        try:
            for one, new in changed:
                if cause := await one.try_out(new.value):
                    await self._say(changed, Outcome.REFUSED, cause)
                    raise SecretRefused(reference=one.reference, cause=cause)
        finally:
            for one, _ in changed:
                one.proposed = None

    async def _take(self, fresh: _New, differ: _New) -> None:
        """Hold what is `fresh`, and have adopted what differs, or was not adopted by all the last time."""
        now = self._clock.read()
        changed = [(one, new) for one, new in differ if one.reading is not None]
        for one, new in fresh:
            one.take(new, now.wall, accept_old_until=now.monotonic + self._overlap)
        failed = [said for one, new in differ for said in await one.adopt(new.value)]
        if changed:
            await self._say(changed, Outcome.INCOMPLETE if failed else Outcome.ADOPTED, "; ".join(failed))
        if failed:
            raise AdoptionIncomplete(reference=differ[0][0].reference, cause="; ".join(failed))

    async def _say(self, changed: _New, outcome: Outcome, cause: str) -> None:
        change = Change(tuple(one.reference for one, _ in changed), changed[0][1].version, outcome, cause)
        if change != self._told or outcome is Outcome.ADOPTED:  # what is refused is refused again at each look
            self._told = change
            await self._tell(change)


def _read(wanted: Sequence[Held], since: float) -> _New:
    """Read all of them at one moment; they have one origin."""
    readings = wanted[0].origin.read([one.name for one in wanted], since)
    for one, new in zip(wanted, readings, strict=True):
        one.redactor.add(new.value)
    return list(zip(wanted, readings, strict=True))


async def in_a_thread(read: Callable[[], T]) -> T:
    """Run `read` beside the loop, in a thread that a file on a dead share may hold for ever without harm."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(work: Callable[[], None]) -> None:
        if not answer.done():
            work()

    def work() -> None:
        try:
            value = read()
            done = lambda: answer.set_result(value)  # noqa: E731 - what is done with it, on the loop
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            caught = error
            done = lambda: answer.set_exception(caught)  # noqa: E731
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, done)

    threading.Thread(target=work, name="secret", daemon=True).start()
    return await answer
