"""Messages from before they are sent until they are taken or given up: promises in state.db, for each target in order.

While state.db takes nothing, which is news itself, they are kept in memory and sent all the same.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock, microseconds, moment
from homelab_agent.core.spool import Row, Scalar, Spool
from homelab_agent.core.state import State, StateUnavailable
from homelab_agent.core.uuid7 import uuid7
from homelab_agent.notify import message
from homelab_agent.notify.decision import Item
from homelab_agent.notify.severity import Severity

TABLE = "notification"
KEPT = 50
"""So many of each target are kept after their end, to be looked at."""
_CHECKS_MAX = 400
_GONE = "it is not configured any more"
RECENT = 6
"""So many the status page shows."""

Beside: TypeAlias = Callable[[sqlite3.Connection], None]
log = journal.logger("notify")


@dataclass(slots=True)
class Promise:
    """A message on its way to one target."""

    target: str
    items: tuple[Item, ...]
    made_at: datetime
    id: str = field(default_factory=uuid7)
    tried_at: datetime | None = None
    tries: int = 0
    answer: str = ""
    ended_at: datetime | None = None
    outcome: str = ""

    @property
    def severity(self) -> Severity:
        """The worst in it."""
        return max(item.severity for item in self.items)

    @property
    def checks(self) -> str:
        """What it is about."""
        return message.one_line(", ".join(dict.fromkeys(item.check for item in self.items)), _CHECKS_MAX)

    def insert(self, connection: sqlite3.Connection) -> None:
        """Write it down, in a transaction of who calls."""
        connection.execute(
            "INSERT INTO notify_message (id, target, made_at, severity, items) VALUES (?, ?, ?, ?, ?)",
            (self.id, self.target, microseconds(self.made_at), int(self.severity), message.encode(self.items)),
        ).close()


class Queue:
    """All targets' messages that wait, in memory as on disk."""

    def __init__(self, state: State, spool: Spool, clock: Clock, *, host: str) -> None:
        self._state = state
        self._spool = spool
        self._clock = clock
        self._host = host
        self._waiting: dict[str, list[Promise]] = {}
        self.recent: deque[Promise] = deque(maxlen=RECENT)
        """The newest messages, the newest first, for who looks."""

    async def recover(self) -> None:
        """Take up what an agent before this one has promised; raises `StateUnavailable`."""

        def work(connection: sqlite3.Connection) -> list[Promise]:
            return _select(connection, "WHERE ended_at IS NULL ORDER BY rowid")

        if not self.recent:
            self.recent.extend(await self.last(RECENT))
        known = {one.id for waiting in self._waiting.values() for one in waiting}
        for promise in await self._state.read(work):
            if promise.id not in known:
                self._waiting.setdefault(promise.target, []).append(promise)
                self._show(promise)

    async def promise(self, promises: Sequence[Promise], beside: Beside) -> None:
        """Keep new messages, and in the same transaction what `beside` writes: on disk before anything is sent."""

        def work(connection: sqlite3.Connection) -> None:
            for one in promises:
                one.insert(connection)
            beside(connection)

        try:
            await self._state.write(work)
        except StateUnavailable as error:
            log.warning("notify.not_kept", messages=len(promises), error=error)
        for one in promises:
            self._waiting.setdefault(one.target, []).append(one)
            self._show(one)

    def _show(self, promise: Promise) -> None:
        """Have it among the newest, in place of what is known of it from disk."""
        others = [one for one in self.recent if one.id != promise.id]
        self.recent.clear()
        self.recent.extend(sorted([promise, *others], key=lambda one: one.id, reverse=True)[:RECENT])

    def waiting(self, target: str) -> Sequence[Promise]:
        """Return what a target has yet to be told, the oldest first."""
        return tuple(self._waiting.get(target, ()))

    async def tried(self, promises: Sequence[Promise], answer: str) -> None:
        """Note that a target did not take them; they stay where they are."""
        now = self._clock.read().wall
        for one in promises:
            one.tried_at, one.tries, one.answer = one.tried_at or now, one.tries + 1, answer
        try:
            await self._state.write(lambda connection: _update(connection, promises))
        except StateUnavailable as error:
            log.warning("notify.not_kept", messages=len(promises), error=error)

    async def end(self, promises: Sequence[Promise], outcome: str, answer: str, title: str) -> None:
        """Note how they ended, "sent" or "given up", with their rows for PostgreSQL."""
        now = self._clock.read().wall
        for one in promises:
            one.tries += outcome == "sent"
            one.ended_at, one.outcome, one.answer = now, outcome, answer

        def work(connection: sqlite3.Connection) -> Sequence[Row]:
            _update(connection, promises)
            _forget(connection, promises[0].target)
            return [self._row(one, title) for one in promises]

        try:
            await self._spool.promise(work)
        except StateUnavailable as error:
            log.warning("notify.not_kept", messages=len(promises), error=error)
        ended = {one.id for one in promises}
        for target in {one.target for one in promises}:
            self._waiting[target] = [one for one in self._waiting.get(target, []) if one.id not in ended]

    async def drop_all_but(self, targets: Collection[str]) -> None:
        """Give up what waits for targets that are not configured any more."""
        for target in [name for name, waiting in self._waiting.items() if waiting and name not in targets]:
            waiting = self._waiting[target]
            log.warning("notify.given_up", target=target, messages=len(waiting), title=waiting[0].checks, answer=_GONE)
            await self.end(waiting, "given up", _GONE, waiting[0].checks)

    async def last(self, count: int) -> list[Promise]:
        """Return the newest messages, the newest first, ended or not."""
        return await self._state.read(lambda connection: _select(connection, "ORDER BY rowid DESC LIMIT ?", count))

    def _row(self, one: Promise, title: str) -> Row:
        values: dict[str, Scalar] = {
            "host": self._host,
            "id": one.id,
            "target": one.target,
            "severity": one.severity.word,
            "title": title,
            "checks": one.checks,
            "made_at": one.made_at,
            "ended_at": one.ended_at,
            "outcome": one.outcome,
            "tries": one.tries,
            "answer": one.answer,
        }
        return Row(TABLE, ("host", "id"), values, one.made_at)


def _update(connection: sqlite3.Connection, promises: Sequence[Promise]) -> None:
    connection.executemany(
        "UPDATE notify_message SET tried_at = ?, tries = ?, answer = ?, ended_at = ?, outcome = ? WHERE id = ?",
        [(_count(one.tried_at), one.tries, one.answer, _count(one.ended_at), one.outcome, one.id) for one in promises],
    ).close()


def _forget(connection: sqlite3.Connection, target: str) -> None:
    connection.execute(
        "DELETE FROM notify_message WHERE target = ? AND ended_at IS NOT NULL AND rowid NOT IN (SELECT rowid FROM "
        "notify_message WHERE target = ? AND ended_at IS NOT NULL ORDER BY rowid DESC LIMIT ?)",
        (target, target, KEPT),
    ).close()


def _select(connection: sqlite3.Connection, rest: str, *values: object) -> list[Promise]:
    rows = connection.execute(
        f"SELECT id, target, made_at, items, tried_at, tries, answer, ended_at, outcome FROM notify_message {rest}",  # noqa: S608 - ours
        values,
    ).fetchall()
    return [
        Promise(
            target,
            message.decode(items, moment(made)),
            moment(made),
            id,
            None if tried is None else moment(tried),
            tries,
            answer,
            None if ended is None else moment(ended),
            outcome,
        )
        for id, target, made, items, tried, tries, answer, ended, outcome in rows  # noqa: A001 - the column's name
    ]


def _count(at: datetime | None) -> int | None:
    return None if at is None else microseconds(at)
