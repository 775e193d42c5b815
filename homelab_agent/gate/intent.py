"""What the operator wants: the door held shut, for a time or until it is released. Kept in state.db over restarts."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from homelab_agent.core.clock import Clock, microseconds, moment
from homelab_agent.core.jobs.run import recordable
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

    def __init__(self, state: State, clock: Clock, *, changed: Callable[[], None] = lambda: None) -> None:
        """Call `changed` as soon as the door is held, before the disk knows."""
        self._state = state
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

    async def release(self) -> Hold | None:
        """Release the door; return the hold that was in force. Raises `StateUnavailable`, and holds on."""
        await self._agree()
        async with self._lock:
            held, released = self._hold, self._in_force()
            await self._state.write(lambda connection: connection.execute("DELETE FROM gate_hold").close())
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
                found, opening = await self._state.write(partial(self._settle, known=known, now=now))
                if self._hold is known:
                    self._hold, self._agreed = found, opening

    def _settle(self, connection: sqlite3.Connection, known: Hold | None, now: datetime) -> tuple[Hold | None, int]:
        hold = known or _saved(connection)
        lost = " ".join(self._state.lost.split())
        if lost and _is_news(connection, now) and (hold is None or hold.until is not None):
            hold = Hold(AGENT, f"a hold may have been lost: {lost}", now, None)
        if hold is not None:
            _save(connection, hold)
        return hold, self._state.openings


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
