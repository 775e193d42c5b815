"""Messages from before they are sent until they are taken or given up: promises in state.db, for each target in order.

While state.db takes nothing, which is news itself, they are kept in memory and sent all the same. What it did not take
is owed to it, and written with whatever is written next: what is on disk is what counts after a kill, so nothing that
counts as told goes there before the message that tells it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeAlias

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock
from homelab_agent.core.spool import Row, Scalar, Spool
from homelab_agent.core.state import State, StateUnavailable
from homelab_agent.core.uuid7 import uuid7
from homelab_agent.notify import promise
from homelab_agent.notify.decision import Item
from homelab_agent.notify.promise import Portion, Promise

TABLE = "notification"
_GONE = "it is not configured any more"
RECENT = 6
"""So many the status page shows."""

Beside: TypeAlias = Callable[[sqlite3.Connection], None]
log = journal.logger("notify")


@dataclass(frozen=True, slots=True, eq=False)
class _Owed:
    """What state.db does not have yet as it is now; another one of the same promise is another debt."""

    promise: Promise


class Queue:
    """All targets' messages that wait, in memory as on disk."""

    def __init__(self, state: State, spool: Spool, clock: Clock, *, host: str) -> None:
        self._state = state
        self._spool = spool
        self._clock = clock
        self._host = host
        self._waiting: dict[str, list[Promise]] = {}
        self._given_up: dict[str, int] = {}
        self._owed: dict[str, _Owed] = {}
        self._owed_forgiven: dict[str, datetime] = {}
        self._owed_book: object | None = None
        self._writing = asyncio.Lock()
        self.book: Callable[[], Beside | None] = lambda: None
        """Gives what writes down what counts as told, as it is now; None while that is not known."""
        self.is_recovered = False
        """Whether what an agent before this one has left is known."""
        self.recent: deque[Promise] = deque(maxlen=RECENT)
        """The newest messages, the newest first, for who looks."""

    async def recover(self) -> None:
        """Take up what an agent before this one has promised, before what is new; raises `StateUnavailable`."""
        if self.is_recovered:
            return
        recent = await self.last(RECENT)
        found = await self._state.read(promise.waiting)
        given_up = await self._state.read(partial(promise.given_up, but=_GONE))
        now = self._clock.read()
        known = {one.id for waiting in self._waiting.values() for one in waiting} | self._owed.keys()
        left = [one for one in found if one.id not in known]
        for one in left:
            if one.tried_at is not None:
                one.since = now.monotonic - max((now.wall - one.tried_at).total_seconds(), 0.0)
        for target in {one.target for one in left}:
            before = [one for one in left if one.target == target]
            self._waiting[target] = before + self._waiting.get(target, [])
        for target, count in given_up.items():
            if target in self._owed_forgiven:
                continue
            self._given_up[target] = self._given_up.get(target, 0) + count
        for one in [*recent, *left]:
            if one.id not in known:
                self._show(one)
        self.is_recovered = True

    async def promise(self, promises: Sequence[Promise]) -> None:
        """Keep new messages, and in the same transaction what counts as told: on disk before anything is sent."""
        self._owed_book = object()
        await self._keep(promises)
        self.take_up(promises)

    def take_up(self, promises: Sequence[Promise]) -> None:
        """Have what is on disk wait."""
        for one in promises:
            self._waiting.setdefault(one.target, []).append(one)
            self._show(one)

    def _show(self, one: Promise) -> None:
        """Have it among the newest, in place of what is known of it from disk."""
        others = [other for other in self.recent if other.id != one.id]
        self.recent.clear()
        self.recent.extend(sorted([one, *others], key=lambda each: each.id, reverse=True)[:RECENT])

    def waiting(self, target: str) -> Sequence[Promise]:
        """Return what a target has yet to be told, the oldest first."""
        return tuple(self._waiting.get(target, ()))

    def given_up(self, target: str) -> int:
        """Return how many messages a target was not told of since it last took one."""
        return self._given_up.get(target, 0)

    def forgive(self, target: str) -> None:
        """Let go of what was given up: the target has taken a test, or is another one. It is written down soon."""
        self._given_up.pop(target, None)
        self._owed_forgiven[target] = self._clock.read().wall

    def readdress(self, target: str) -> None:
        """Have nothing count that was of a target's old address: what waits has not perhaps been taken by the new."""
        self.forgive(target)
        for one in self.waiting(target):
            if one.unclear:
                one.unclear = 0
                self._owed[one.id] = _Owed(one)

    def excuse(self, target: str, seconds: float) -> None:
        """Have what waits be so much less late: a mute held it back. It is written down soon."""
        for one in self.waiting(target):
            if one.since is not None and one.tried_at is not None:
                one.since, one.tried_at = one.since + seconds, one.tried_at + timedelta(seconds=seconds)
                self._owed[one.id] = _Owed(one)

    async def tried(
        self, batch: Sequence[Portion], answer: str, waiting: Sequence[Promise], *, unclear: bool = False
    ) -> None:
        """Note that a target did not take a batch, or perhaps did (`unclear`); all that are `waiting` wait for it."""
        now = self._clock.read()
        for portion in batch:
            portion.promise.tries += 1
            portion.promise.unclear += unclear
            portion.promise.answer = answer
        late = [one for one in waiting if one.since is None]
        for one in late:
            one.since, one.tried_at = now.monotonic, now.wall
        changed = {one.id: one for one in [*(portion.promise for portion in batch), *late]}
        await self._keep(list(changed.values()))

    async def sent(self, batch: Sequence[Portion], answer: str, title: str) -> None:
        """Note that a target has taken a batch; of a promise that it was a part of the rest waits on."""
        for portion in batch:
            portion.promise.tries += 1
        self._given_up.pop(batch[0].promise.target, None)
        await self._end_portions(batch, "sent", answer, title)

    async def let_go(self, batch: Sequence[Portion], answer: str, title: str) -> None:
        """Note that a batch is given up which its target has perhaps taken; nothing of it is told later."""
        target = batch[0].promise.target
        self._given_up[target] = self.given_up(target) + len(batch)
        await self._end_portions(batch, "given up", answer, title)

    async def _end_portions(self, batch: Sequence[Portion], outcome: str, answer: str, title: str) -> None:
        """Note how a batch ended; of a promise that it was a part of the rest waits on."""
        ended = [portion.promise for portion in batch if not portion.rest]
        parts = [portion for portion in batch if portion.rest]
        if parts:
            items = tuple(item for part in parts for item in part.items)
            ended.append(replace(parts[0].promise, id=uuid7(), items=items))
        for part in parts:
            part.promise.begin_anew(part.rest)
        await self._end(ended, outcome, answer, title, [part.promise for part in parts])

    async def give_up(self, overdue: Sequence[Promise], last: tuple[Item, ...], answer: str, title: str) -> None:
        """Note that they are given up; what is left of them, `last` words, waits on in one."""
        target = overdue[0].target
        self._given_up[target] = self.given_up(target) + len(overdue)
        keeper = next((one for one in self.waiting(target) if one.has_last_words), overdue[-1])
        ended = [replace(one, id=uuid7()) if one is keeper else one for one in overdue]
        if keeper.has_last_words:
            keeper.items = last
        else:
            keeper.begin_anew(last)
            keeper.answer = answer  # why it has not been told of them
        await self._end(ended, "given up", answer, title, [keeper])

    async def drop_all_but(self, targets: Collection[str]) -> None:
        """Give up what waits for targets that are not configured any more, and forgive them."""
        for target in self._given_up.keys() - set(targets):
            self.forgive(target)
        for target in [name for name, waiting in self._waiting.items() if waiting and name not in targets]:
            waiting = self._waiting[target]
            log.warning("notify.given_up", target=target, messages=len(waiting), title=waiting[0].checks, answer=_GONE)
            await self._end(waiting, "given up", _GONE, waiting[0].checks)

    async def _end(
        self, promises: Sequence[Promise], outcome: str, answer: str, title: str, changed: Sequence[Promise] = ()
    ) -> None:
        """Note how promises ended, with their rows for PostgreSQL, and beside them those that are `changed`."""
        now = self._clock.read().wall
        for one in promises:
            one.ended_at, one.outcome, one.answer, one.title = now, outcome, answer, title
            self._show(one)
        ended = {one.id for one in promises}
        for target in {one.target for one in promises}:
            self._waiting[target] = [one for one in self._waiting.get(target, []) if one.id not in ended]
        await self._keep([*promises, *changed])

    async def note(self) -> None:
        """Write down what counts as told, which is something else than it was."""
        self._owed_book = object()
        await self.settle()

    async def settle(self) -> None:
        """Write down what state.db did not take when it should have, if it takes it now."""
        with suppress(StateUnavailable):
            await self._write()

    async def _keep(self, promises: Sequence[Promise]) -> None:
        """Write these down as they are, and all that is owed."""
        self._owed.update((one.id, _Owed(one)) for one in promises)
        try:
            await self._write()
        except StateUnavailable as error:
            log.warning("notify.not_kept", messages=len(promises), error=error)

    async def _write(self) -> None:
        """Write down all that is owed, in one transaction, as it is now; one at a time, for the last one counts."""
        async with self._writing:
            owed, owed_book, forgiven = dict(self._owed), self._owed_book, dict(self._owed_forgiven)
            book = self.book() if owed_book is not None else None
            if not owed and not forgiven and book is None:
                return
            kept = [one.promise.kept() for one in owed.values()]
            ended = [one.promise for one in owed.values() if one.promise.ended_at is not None]
            rows = [self._row(one) for one in ended]

            def work(connection: sqlite3.Connection) -> Sequence[Row]:
                promise.save(connection, kept)
                promise.forgive(connection, forgiven)
                for target in {one.target for one in ended}:
                    promise.forget(connection, target)
                if book is not None:
                    book(connection)
                return rows

            await self._spool.promise(work)
            for name, one in owed.items():
                if self._owed.get(name) is one:
                    del self._owed[name]
            for target, at in forgiven.items():
                if self._owed_forgiven.get(target) is at:
                    del self._owed_forgiven[target]
            if book is not None and self._owed_book is owed_book:
                self._owed_book = None

    async def last(self, count: int) -> list[Promise]:
        """Return the newest messages, the newest first, ended or not; raises `StateUnavailable`."""
        return await self._state.read(partial(promise.newest, count=count))

    def _row(self, one: Promise) -> Row:
        values: dict[str, Scalar] = {
            "host": self._host,
            "id": one.id,
            "target": one.target,
            "severity": one.severity.word,
            "title": one.title,
            "checks": one.checks,
            "made_at": one.made_at,
            "ended_at": one.ended_at,
            "outcome": one.outcome,
            "tries": one.tries,
            "answer": one.answer,
        }
        return Row(TABLE, ("host", "id"), values, one.made_at)
