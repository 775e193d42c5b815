"""The operator's word that nothing be told for a while, kept over restarts."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

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
    """Whether there is such a word now.

    It lasts as long as was said, also when the clock is set: it is counted by the clock that nobody sets, and by the
    wall clock only over a start; never for longer than was said.
    """

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._word: Muted | None = None
        self._ends = 0.0

    async def recover(self) -> None:
        """Read what was said before this start; raises `StateUnavailable`."""
        word = await self._state.read(_read)
        if word is not None:
            self._begin(word, min(word.until - self._clock.read().wall, word.until - word.since))

    def current(self) -> Muted | None:
        """Return the word that is in force, until when by the wall clock as it is now."""
        now = self._clock.read()
        if self._word is None or now.boot >= self._ends:
            return None
        return replace(self._word, until=now.wall + timedelta(seconds=self._ends - now.boot))

    async def set(self, *, who: str, reason: str, until: datetime) -> Muted:
        """Have nothing told until then, in place of an earlier word; raises `StateUnavailable`."""
        word = Muted(recordable(who), recordable(reason), self._clock.read().wall, until)
        await self._state.write(lambda connection: _write(connection, word))
        self._begin(word, word.until - word.since)
        log.info("notify.muted", who=word.who, reason=word.reason, until=word.until.isoformat())
        return word

    def _begin(self, word: Muted, lasts: timedelta) -> None:
        self._word, self._ends = word, self._clock.read().boot + lasts.total_seconds()

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
