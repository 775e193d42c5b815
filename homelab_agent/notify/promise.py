"""A message on its way to one target, and how state.db keeps it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from homelab_agent.core.clock import microseconds, moment
from homelab_agent.core.uuid7 import uuid7
from homelab_agent.notify import message
from homelab_agent.notify.decision import Item
from homelab_agent.notify.severity import Severity

LAST_WORDS = "messages given up"
"""What a message calls itself that has the last words of those that were given up."""

KEPT = 50
"""So many of each target are kept after their end, to be looked at."""

_CHECKS_MAX = 400

Kept: TypeAlias = tuple[str, str, int, int, str, int | None, int, str, int | None, str, int]


@dataclass(slots=True)
class Promise:
    """A message on its way to one target; `tried_at` is since when that has not taken it."""

    target: str
    items: tuple[Item, ...]
    made_at: datetime
    id: str = field(default_factory=uuid7)
    tried_at: datetime | None = None
    tries: int = 0
    answer: str = ""
    ended_at: datetime | None = None
    outcome: str = ""
    title: str = ""
    """What was said first when it ended; PostgreSQL has that, state.db has not."""
    unclear: int = 0
    """How often its target has perhaps taken it, and did not say so."""
    since: float | None = None
    """`tried_at` in monotonic time, which nobody sets."""

    @property
    def severity(self) -> Severity:
        """The worst in it."""
        return max(item.severity for item in self.items)

    @property
    def checks(self) -> str:
        """What it is about."""
        return message.one_line(", ".join(dict.fromkeys(item.check for item in self.items)), _CHECKS_MAX)

    @property
    def has_last_words(self) -> bool:
        """Whether it stands for messages that were given up; it is not given up itself."""
        return any(item.check == LAST_WORDS for item in self.items)

    def age(self, now: float) -> float:
        """Return for how many seconds its target has not taken it, `now` being monotonic."""
        return 0.0 if self.since is None else now - self.since

    def begin_anew(self, items: tuple[Item, ...]) -> None:
        """Have it say something else, of which nothing has been tried yet."""
        self.items, self.tries, self.unclear, self.answer = items, 0, 0, ""
        self.tried_at, self.since = None, None

    def kept(self) -> Kept:
        """Return its row."""
        return (
            self.id,
            self.target,
            microseconds(self.made_at),
            int(self.severity),
            message.encode(self.items),
            None if self.tried_at is None else microseconds(self.tried_at),
            self.tries,
            self.answer,
            None if self.ended_at is None else microseconds(self.ended_at),
            self.outcome,
            self.unclear if self.ended_at is None else 0,
        )


@dataclass(frozen=True, slots=True)
class Portion:
    """What of a promise one message says, and what of it is left for a later one."""

    promise: Promise
    items: tuple[Item, ...]
    rest: tuple[Item, ...] = ()


def save(connection: sqlite3.Connection, rows: Sequence[Kept]) -> None:
    """Write promises down as they are, new ones and others; in the order of their first time."""
    connection.executemany(
        "INSERT INTO notify_message (id, target, made_at, severity, items, tried_at, tries, answer, ended_at, outcome) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET severity = excluded.severity, "
        "items = excluded.items, tried_at = excluded.tried_at, tries = excluded.tries, answer = excluded.answer, "
        "ended_at = excluded.ended_at, outcome = excluded.outcome",
        [row[:-1] for row in rows],
    ).close()
    unclear = [(row[0], row[-1]) for row in rows]
    connection.executemany("INSERT OR REPLACE INTO notify_unclear (id, answers) VALUES (?, ?)", unclear).close()
    connection.execute("DELETE FROM notify_unclear WHERE answers = 0").close()


def forget(connection: sqlite3.Connection, target: str) -> None:
    """Keep of a target's messages that have ended the newest only."""
    connection.execute(
        "DELETE FROM notify_message WHERE target = ? AND ended_at IS NOT NULL AND rowid NOT IN (SELECT rowid FROM "
        "notify_message WHERE target = ? AND ended_at IS NOT NULL ORDER BY rowid DESC LIMIT ?)",
        (target, target, KEPT),
    ).close()


def waiting(connection: sqlite3.Connection) -> list[Promise]:
    """Return what has not ended, the oldest first."""
    return _select(connection, "WHERE ended_at IS NULL ORDER BY rowid")


def newest(connection: sqlite3.Connection, count: int) -> list[Promise]:
    """Return the newest, ended or not, the newest first."""
    return _select(connection, "ORDER BY rowid DESC LIMIT ?", count)


def forgive(connection: sqlite3.Connection, forgiven: Mapping[str, datetime]) -> None:
    """Note since when nothing that was given up before stands against these targets."""
    connection.executemany(
        "INSERT OR REPLACE INTO notify_forgiven (target, at) VALUES (?, ?)",
        [(target, microseconds(at)) for target, at in forgiven.items()],
    ).close()


def given_up(connection: sqlite3.Connection, but: str) -> dict[str, int]:
    """Return how many messages each target was not told of since it last took one or was forgiven.

    `but` those with that answer.
    """
    rows = connection.execute(
        "SELECT target, count(*) FROM notify_message AS one WHERE outcome = 'given up' AND answer <> ? AND ended_at > "
        "coalesce((SELECT max(ended_at) FROM notify_message WHERE target = one.target AND outcome = 'sent'), -1) "
        "AND ended_at > coalesce((SELECT at FROM notify_forgiven WHERE target = one.target), -1) GROUP BY target",
        (but,),
    )
    return dict(rows.fetchall())


def _select(connection: sqlite3.Connection, rest: str, *values: object) -> list[Promise]:
    rows = connection.execute(
        "SELECT id, target, made_at, items, tried_at, tries, answer, ended_at, outcome, coalesce((SELECT answers FROM "  # noqa: S608 - ours
        f"notify_unclear WHERE id = notify_message.id), 0) FROM notify_message {rest}",
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
            unclear=unclear,
        )
        for id, target, made, items, tried, tries, answer, ended, outcome, unclear in rows  # noqa: A001 - the column's name
    ]
