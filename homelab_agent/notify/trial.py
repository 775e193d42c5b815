"""The last test of each target, as state.db keeps it."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from homelab_agent.core.clock import microseconds, moment
from homelab_agent.core.state import State, StateUnavailable
from homelab_agent.notify.answer import Answer


@dataclass(frozen=True, slots=True)
class Tested:
    """What the other side answered to a test."""

    target: str
    at: datetime
    ok: bool
    answer: str


class Trials:
    """The last test of each target, in memory as on disk."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._last: dict[str, Tested] = {}

    async def recover(self) -> None:
        """Read what was tested before this start; raises `StateUnavailable`."""
        self._last = {one.target: one for one in await self._state.read(read)} | self._last

    def last(self, target: str) -> Tested | None:
        """Return the last test of a target."""
        return self._last.get(target)

    async def note(self, target: str, at: datetime, answer: Answer) -> None:
        """Keep a test; where the disk does not take it, in memory alone."""
        self._last[target] = Tested(target, at, answer.ok, answer.words)
        with suppress(StateUnavailable):
            await self._state.write(lambda connection: write(connection, target, at, answer))


def read(connection: sqlite3.Connection) -> list[Tested]:
    """Return the last test of each target."""
    rows = connection.execute("SELECT target, at, ok, answer FROM notify_test ORDER BY target").fetchall()
    return [Tested(target, moment(at), bool(ok), answer) for target, at, ok, answer in rows]


def write(connection: sqlite3.Connection, target: str, at: datetime, answer: Answer) -> None:
    """Keep a test in place of the one before."""
    connection.execute(
        "INSERT OR REPLACE INTO notify_test (target, at, ok, answer) VALUES (?, ?, ?, ?)",
        (target, microseconds(at), int(answer.ok), answer.words),
    ).close()
