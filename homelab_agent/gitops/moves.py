"""Deployments in state.db: which commit a working copy moved to, which actions followed, what must not come again.

A record is committed before what it is about begins; its row for PostgreSQL goes with the record of its end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from homelab_agent.core.clock import Clock, microseconds, moment
from homelab_agent.core.jobs.run import recordable
from homelab_agent.core.spool import Row, Spool
from homelab_agent.core.state import State
from homelab_agent.core.uuid7 import uuid7

MoveState: TypeAlias = Literal["running", "ok", "failed", "rolled_back", "interrupted"]
ActionState: TypeAlias = Literal["started", "ok", "failed", "interrupted"]

KEPT = 500
"""So many moves of a repository are kept, and the last good one at any rate."""


@dataclass(frozen=True, slots=True)
class Move:
    """A working copy on its way from one commit to the next; "" is no commit at all.

    `going_back` says why it goes back; "" is one that goes forward.
    """

    id: str
    repository: str
    from_sha: str
    to_sha: str
    state: MoveState
    detail: str
    run_id: str | None
    started_at: datetime
    ended_at: datetime | None
    going_back: str = ""

    @property
    def leads_on(self) -> bool:
        """Whether it comes from another commit, to which one could go back."""
        return self.from_sha not in {"", self.to_sha}


@dataclass(frozen=True, slots=True)
class ActionRecord:
    """An action of a move, the `position`th of those that follow it."""

    move_id: str
    position: int
    name: str
    state: ActionState
    detail: str
    started_at: datetime
    ended_at: datetime | None


class Moves:
    """Every method raises `StateUnavailable` when state.db cannot be written or read."""

    def __init__(self, state: State, spool: Spool, clock: Clock, *, host: str) -> None:
        self._state = state
        self._spool = spool
        self._clock = clock
        self._host = host

    async def begin(
        self, repository: str, from_sha: str, to_sha: str, run_id: str | None = None, *, going_back: str = ""
    ) -> Move:
        """Record that a move begins."""
        now, why = self._now(), recordable(going_back)
        move = Move(uuid7(), repository, from_sha, to_sha, "running", "", run_id, moment(now), None, why)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO gitops_move (id, repository, from_sha, to_sha, state, run_id, started_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (move.id, repository, from_sha, to_sha, move.state, run_id, now),
            )
            if why:
                connection.execute("INSERT INTO gitops_back (move_id, why) VALUES (?, ?)", (move.id, why))
            _prune(connection, repository)

        await self._state.write(work)
        return move

    async def adopt(self, repository: str, sha: str, run_id: str | None = None) -> None:
        """Record what was there before anything was deployed; "" is a branch without a commit."""
        now = self._now()
        move_id, detail = uuid7(), "was there already" if sha else "nothing was there"

        def work(connection: sqlite3.Connection) -> list[Row]:
            connection.execute(
                "INSERT INTO gitops_move"
                " (id, repository, from_sha, to_sha, state, detail, run_id, started_at, ended_at)"
                " VALUES (?, ?, ?, ?, 'ok', ?, ?, ?, ?)",
                (move_id, repository, sha, sha, detail, run_id, now, now),
            )
            return [self._row(connection, move_id)]

        await self._spool.promise(work)

    async def end(self, move: Move, state: MoveState, detail: str = "", *, bad_sha: str = "") -> None:
        """Record how a move ended; what of its actions had not ended is interrupted. A move that has ended stays so.

        `bad_sha` is a commit that is not to be deployed again by itself.
        """
        now = self._now()

        def work(connection: sqlite3.Connection) -> list[Row]:
            done = connection.execute(
                "UPDATE gitops_move SET state = ?, detail = ?, ended_at = ? WHERE id = ? AND ended_at IS NULL",
                (state, recordable(detail), now, move.id),
            )
            if done.rowcount == 0:
                return []
            cut = {one.position for one in _actions(connection, move.id) if one.ended_at is None}
            for position in cut:
                _end_action(connection, move.id, position, "interrupted", "the agent ended while it ran", now)
            if bad_sha:
                _condemn(connection, move.repository, bad_sha, detail, now)
            return [*self._action_rows(connection, move.id, cut), self._row(connection, move.id)]

        await self._spool.promise(work)

    async def take_back(self, move: Move) -> None:
        """Record that a move did not take place after all."""
        query = "DELETE FROM gitops_move WHERE id = ? AND ended_at IS NULL"
        await self._state.write(lambda connection: connection.execute(query, (move.id,)).close())

    async def begin_action(self, move: Move, position: int, name: str) -> bool:
        """Record that an action begins, or begins again; return False, and change nothing, if it has ended already."""
        now = self._now()

        def work(connection: sqlite3.Connection) -> bool:
            done = connection.execute(
                "INSERT INTO gitops_action (move_id, position, name, state, started_at) VALUES (?, ?, ?, 'started', ?)"
                " ON CONFLICT (move_id, position) DO UPDATE SET started_at = excluded.started_at"
                " WHERE ended_at IS NULL",
                (move.id, position, name, now),
            )
            return done.rowcount == 1

        return await self._state.write(work)

    async def take_back_action(self, move: Move, position: int) -> None:
        """Record that an action did not begin after all."""
        query = "DELETE FROM gitops_action WHERE move_id = ? AND position = ? AND ended_at IS NULL"
        await self._state.write(lambda connection: connection.execute(query, (move.id, position)).close())

    async def end_action(self, move: Move, position: int, state: ActionState, detail: str = "") -> None:
        """Record how an action ended; one that has ended stays so."""
        now = self._now()

        def work(connection: sqlite3.Connection) -> list[Row]:
            ended = _end_action(connection, move.id, position, state, detail, now)
            return list(self._action_rows(connection, move.id, {position})) if ended else []

        await self._spool.promise(work)

    async def unfinished(self) -> list[Move]:
        """Return the moves that have not ended, the oldest first: after a start, those that were cut short."""
        return await self._state.read(lambda connection: list(_moves(connection, "ended_at IS NULL ORDER BY rowid")))

    async def actions(self, move: Move) -> list[ActionRecord]:
        """Return the actions of a move in order."""
        return await self._state.read(lambda connection: list(_actions(connection, move.id)))

    async def deployed(self, repository: str) -> Move | None:
        """Return the move that brought what is deployed; None while nothing was."""
        start = await self.start(repository)
        return start if start is not None and start.to_sha else None

    async def start(self, repository: str) -> Move | None:
        """Return the move that brought, or found, what the next one comes from; None before the first."""
        where = "repository = ? AND state = 'ok' ORDER BY rowid DESC LIMIT 1"
        found = await self._state.read(lambda connection: list(_moves(connection, where, (repository,))))
        return found[0] if found else None

    async def tried(self, repository: str, before: Move | None = None) -> list[str]:
        """Return the commits for which actions were begun since what is deployed was, the first first.

        With `before` only those of the moves before that one.
        """
        query = (
            "SELECT DISTINCT to_sha FROM gitops_move AS tried WHERE repository = :repository"
            " AND rowid > (SELECT coalesce(max(rowid), 0) FROM gitops_move"
            "  WHERE repository = :repository AND state = 'ok')"
            " AND rowid < coalesce((SELECT rowid FROM gitops_move WHERE id = :before), 9223372036854775807)"
            " AND EXISTS (SELECT 1 FROM gitops_action WHERE move_id = tried.id) ORDER BY rowid"
        )
        values = {"repository": repository, "before": before.id if before is not None else None}
        return await self._state.read(lambda connection: [sha for (sha,) in connection.execute(query, values)])

    async def newest(self, repository: str, limit: int) -> list[Move]:
        """Return a repository's newest moves, the newest first."""
        where = "repository = ? ORDER BY rowid DESC LIMIT ?"
        return await self._state.read(lambda connection: list(_moves(connection, where, (repository, limit))))

    async def found(self, name: str) -> list[tuple[Move, list[ActionRecord]]]:
        """Return the move of that id, or the moves of the run of that id, the oldest first, each with its actions."""

        def work(connection: sqlite3.Connection) -> list[tuple[Move, list[ActionRecord]]]:
            moves = list(_moves(connection, "? IN (id, run_id) ORDER BY rowid", (name,)))
            return [(move, list(_actions(connection, move.id))) for move in moves]

        return await self._state.read(work)

    async def bad(self, repository: str) -> Mapping[str, str]:
        """Return the commits that are not to be deployed by themselves, and why."""
        query = "SELECT sha, why FROM gitops_bad_sha WHERE repository = ?"
        return await self._state.read(lambda connection: dict(connection.execute(query, (repository,)).fetchall()))

    async def forgive(self, repository: str, sha: str) -> None:
        """Let a commit be deployed again."""
        query = "DELETE FROM gitops_bad_sha WHERE repository = ? AND sha = ?"
        await self._state.write(lambda connection: connection.execute(query, (repository, sha)).close())

    def _now(self) -> int:
        return microseconds(self._clock.read().wall)

    # What follows runs in a transaction of state.db.

    def _row(self, connection: sqlite3.Connection, move_id: str) -> Row:
        (move,) = _moves(connection, "id = ?", (move_id,))
        assert move.ended_at is not None  # noqa: S101 - the caller has ended it
        values = {name: getattr(move, name) for name in _MOVE}
        return Row("gitops_move", ("host", "id"), {"host": self._host, **values}, move.ended_at)

    def _action_rows(self, connection: sqlite3.Connection, move_id: str, positions: set[int]) -> Iterator[Row]:
        for one in _actions(connection, move_id):
            if one.position in positions and one.ended_at is not None:
                values = {name: getattr(one, name) for name in _ACTION}
                key = ("host", "move_id", "position")
                yield Row("gitops_action", key, {"host": self._host, **values}, one.ended_at)


_MOVE = ("id", "repository", "from_sha", "to_sha", "state", "detail", "run_id", "started_at", "ended_at")
_ACTION = ("move_id", "position", "name", "state", "detail", "started_at", "ended_at")


def _moves(connection: sqlite3.Connection, where: str, values: tuple[object, ...] = ()) -> Iterator[Move]:
    """Yield moves; `where` is written in this module."""
    why = "coalesce((SELECT why FROM gitops_back WHERE move_id = id), '')"
    query = f"SELECT {', '.join(_MOVE)}, {why} FROM gitops_move WHERE {where}"  # noqa: S608
    for *words, started_at, ended_at, going_back in connection.execute(query, values).fetchall():
        yield Move(*(*words, moment(started_at), _moment(ended_at), going_back))


def _actions(connection: sqlite3.Connection, move_id: str) -> Iterator[ActionRecord]:
    query = f"SELECT {', '.join(_ACTION)} FROM gitops_action WHERE move_id = ? ORDER BY position"  # noqa: S608
    for *words, started_at, ended_at in connection.execute(query, (move_id,)).fetchall():
        yield ActionRecord(*(*words, moment(started_at), _moment(ended_at)))


def _end_action(
    connection: sqlite3.Connection, move_id: str, position: int, state: ActionState, detail: str, now: int
) -> bool:
    done = connection.execute(
        "UPDATE gitops_action SET state = ?, detail = ?, ended_at = ?"
        " WHERE move_id = ? AND position = ? AND ended_at IS NULL",
        (state, recordable(detail), now, move_id, position),
    )
    return done.rowcount == 1


def _condemn(connection: sqlite3.Connection, repository: str, sha: str, why: str, now: int) -> None:
    connection.execute(
        "INSERT INTO gitops_bad_sha (repository, sha, why, at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (repository, sha) DO UPDATE SET why = excluded.why, at = excluded.at",
        (repository, sha, recordable(why), now),
    )


def _prune(connection: sqlite3.Connection, repository: str) -> None:
    newest = "SELECT rowid FROM gitops_move WHERE repository = :repository"
    connection.execute(
        "DELETE FROM gitops_move WHERE repository = :repository AND ended_at IS NOT NULL"  # noqa: S608 - constants
        f" AND rowid NOT IN ({newest} ORDER BY rowid DESC LIMIT :kept)"
        f" AND rowid NOT IN ({newest} AND state = 'ok' ORDER BY rowid DESC LIMIT 1)",
        {"repository": repository, "kept": KEPT},
    )


def _moment(count: int | None) -> datetime | None:
    return None if count is None else moment(count)
