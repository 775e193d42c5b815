"""What the operator wants: the door held shut, for a time or until it is released. Kept in state.db over restarts.

Each such word has a row for PostgreSQL, which goes on its way together with it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from homelab_agent.core.clock import Clock, microseconds, moment
from homelab_agent.core.jobs.run import recordable
from homelab_agent.core.spool import Row, Scalar, Spool
from homelab_agent.core.state import State

AGENT = "homelab-agent"
"""Who holds the door after a loss."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The door is held shut by `who`; `until` is None where it must be released."""

    who: str
    why: str
    since: datetime
    until: datetime | None


class Intent:
    """Holds the door shut as it was told to, also when that cannot be written down.

    A loss of earlier state may have taken a hold along: so it is one itself, once, until it is released.
    """

    def __init__(
        self, state: State, spool: Spool, clock: Clock, *, host: str, changed: Callable[[], None] = lambda: None
    ) -> None:
        """Call `changed` as soon as the door is held, before the disk knows."""
        self._state = state
        self._spool = spool
        self._host = host
        self._changed = changed
        self._clock = clock
        self._hold: Hold | None = None
        self._agreed = 0  # the opening of state.db in which it says what is known here
        self._lock = asyncio.Lock()

    async def current(self) -> Hold | None:
        """Return the hold that is in force; raises `StateUnavailable` when nobody can know of one.

        One that is being written down is in force already, however long the disk takes.
        """
        if self._in_force() is None or not self._lock.locked():
            await self._agree()
        return self._in_force()

    async def hold(self, *, who: str, why: str, until: datetime | None) -> Hold:
        """Hold the door shut, in place of any earlier hold; on disk when this returns.

        Raises `StateUnavailable` when that cannot be: then it holds while this agent lives, and is written down as
        soon as it can be.
        """
        held = Hold(recordable(who), recordable(why), self._clock.read().wall, until)
        self._hold, self._agreed = held, 0
        self._changed()
        await self._agree()
        return held

    async def release(self, *, who: str) -> Hold | None:
        """Release the door; return the hold that was in force. Raises `StateUnavailable`, and holds on."""
        await self._agree()
        async with self._lock:
            held, released = self._hold, self._in_force()
            word = Hold(recordable(who), "", self._clock.read().wall, None)

            def work(connection: sqlite3.Connection) -> list[Row]:
                connection.execute("DELETE FROM gate_hold").close()
                return [self._row(word, is_held=False)] if released is not None else []

            await self._spool.promise(work)
            if self._hold is held:
                self._hold = None
        return released

    def _in_force(self) -> Hold | None:
        """Return the hold if it has not passed. One that has is kept: a clock that is put right brings it back."""
        hold = self._hold
        is_over = hold is not None and hold.until is not None and hold.until <= self._clock.read().wall
        return None if is_over else hold

    async def _agree(self) -> None:
        """Bring memory and disk together: what is known here is written down, else what is there is taken."""
        async with self._lock:
            while not self._agreed or self._agreed != self._state.openings:
                known, now = self._hold, self._clock.read().wall
                agreed = _Agreed()
                await self._spool.promise(partial(self._settle, known=known, now=now, agreed=agreed))
                if self._hold is known:
                    self._hold, self._agreed = agreed.hold, agreed.opening

    def _settle(
        self, connection: sqlite3.Connection, known: Hold | None, now: datetime, agreed: _Agreed
    ) -> Sequence[Row]:
        """Settle it in a transaction of state.db; a hold that is new there has a row."""
        saved = _saved(connection)
        hold = known or saved
        lost = " ".join(self._state.lost.split())
        if lost and _is_news(connection, now) and (hold is None or hold.until is not None):
            hold = Hold(AGENT, f"a hold may have been lost: {lost}", now, None)
        agreed.hold, agreed.opening = hold, self._state.openings
        if hold is None or hold == saved:
            return []
        _save(connection, hold)
        return [self._row(hold, is_held=True)]

    def _row(self, word: Hold, *, is_held: bool) -> Row:
        values: dict[str, Scalar] = {
            "host": self._host,
            "said_at": word.since,
            "is_held": is_held,
            "who": word.who,
            "why": word.why,
            "until": word.until,
        }
        return Row("gate_intent", ("host", "said_at"), values, word.since)


@dataclass(slots=True)
class _Agreed:
    """What is known in memory and on disk alike: the hold, in which opening of state.db."""

    hold: Hold | None = None
    opening: int = 0


def _is_news(connection: sqlite3.Connection, now: datetime) -> bool:
    """Note a loss; return whether it was not noted before."""
    done = connection.execute(
        "INSERT INTO gate_loss (one, held_at) VALUES (1, ?) ON CONFLICT DO NOTHING", (microseconds(now),)
    )
    return done.rowcount == 1


def _saved(connection: sqlite3.Connection) -> Hold | None:
    found = connection.execute("SELECT who, why, since, until FROM gate_hold").fetchone()
    if found is None:
        return None
    who, why, since, until = found
    return Hold(who, why, moment(since), None if until is None else moment(until))


def _save(connection: sqlite3.Connection, hold: Hold) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO gate_hold (one, who, why, since, until) VALUES (1, ?, ?, ?, ?)",
        (hold.who, hold.why, microseconds(hold.since), None if hold.until is None else microseconds(hold.until)),
    )
