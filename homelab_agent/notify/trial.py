"""The last test of each target, as state.db keeps it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from homelab_agent.core.clock import microseconds, moment
from homelab_agent.notify.answer import Answer


@dataclass(frozen=True, slots=True)
class Tested:
    """What the other side answered to a test."""

    target: str
    at: datetime
    ok: bool
    answer: str


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
