"""The operator's word that nothing be told for a while, kept over restarts."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock, microseconds, moment
from homelab_agent.core.jobs.run import recordable
from homelab_agent.core.state import State

log = journal.logger("notify")


@dataclass(frozen=True, slots=True)
class Muted:
    """Nothing is told until then."""

    who: str
    reason: str
    since: datetime
    until: datetime


class Mute:
    """Whether there is such a word now."""

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._word: Muted | None = None

    async def recover(self) -> None:
        """Read what was said before this start; raises `StateUnavailable`."""
        self._word = await self._state.read(_read)

    def current(self) -> Muted | None:
        """Return the word that is in force."""
        word = self._word
        return word if word is not None and word.until > self._clock.read().wall else None

    async def set(self, *, who: str, reason: str, until: datetime) -> Muted:
        """Have nothing told until then, in place of an earlier word; raises `StateUnavailable`."""
        word = Muted(recordable(who), recordable(reason), self._clock.read().wall, until)
        await self._state.write(lambda connection: _write(connection, word))
        self._word = word
        log.info("notify.muted", who=word.who, reason=word.reason, until=word.until.isoformat())
        return word

    async def end(self) -> Muted | None:
        """Have all told again; return the word that was in force."""
        was = self.current()
        await self._state.write(lambda connection: connection.execute("DELETE FROM notify_mute").close())
        self._word = None
        if was is not None:
            log.info("notify.unmuted", reason=was.reason)
        return was


def _read(connection: sqlite3.Connection) -> Muted | None:
    row = connection.execute("SELECT who, reason, since, until FROM notify_mute").fetchone()
    return None if row is None else Muted(row[0], row[1], moment(row[2]), moment(row[3]))


def _write(connection: sqlite3.Connection, word: Muted) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO notify_mute (one, who, reason, since, until) VALUES (1, ?, ?, ?, ?)",
        (word.who, word.reason, microseconds(word.since), microseconds(word.until)),
    ).close()
