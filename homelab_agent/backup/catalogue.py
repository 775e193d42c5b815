"""Which archives there are, in state.db: what is known of each, and what a drill has shown.

A row for PostgreSQL goes with the transaction that makes what it tells. What the engines hold is the truth:
`rebuild` makes the catalogue agree with it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from homelab_agent.backup.point import Archive
from homelab_agent.core.clock import Clock, microseconds, moment
from homelab_agent.core.jobs.run import recordable
from homelab_agent.core.spool import Row, Spool
from homelab_agent.core.state import State
from homelab_agent.core.uuid7 import uuid7


@dataclass(frozen=True, slots=True)
class Entry:
    """An archive as the catalogue knows it; `run_id` is "" and `verified_at` None where that was not done here."""

    engine: str
    id: str
    set_name: str
    at: datetime
    verdict: str
    sha256: str
    bytes: int
    stored_bytes: int
    files: int
    run_id: str
    verified_at: datetime | None
    verified_ok: bool | None
    proven_at: datetime | None
    proven_seconds: float | None
    deleted_at: datetime | None

    @property
    def is_good(self) -> bool:
        """Whether nothing is known to be wrong with it."""
        return self.verdict != "dirty" and self.verified_ok is not False


@dataclass(frozen=True, slots=True)
class Drill:
    """The last drill of a set at an engine; `repair` mends what was seen, "" for nothing."""

    archive: str
    ok: bool
    detail: str
    repair: str
    seconds: float
    at: datetime


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run of a set at an engine ended; `frozen_ms` is how long each container stood still.

    `detail` is what went wrong, "" for nothing, and `repair` what mends it.
    """

    set_name: str
    engine: str
    state: str
    started_at: datetime
    run_id: str | None = None
    detail: str = ""
    repair: str = ""
    bytes: int = 0
    frozen_ms: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """What went wrong with a set at an engine in its last run there; `repair` mends it, "" for nothing known."""

    engine: str
    what: str
    repair: str


class Catalogue:
    """Every method raises `StateUnavailable` when state.db cannot be written or read."""

    def __init__(self, state: State, spool: Spool, clock: Clock, *, host: str) -> None:
        self._state = state
        self._spool = spool
        self._clock = clock
        self._host = host

    async def end_run(self, run: RunEnd, archive: Archive | None = None) -> None:
        """Record how a run ended, with the archive that it made and has read back."""
        now = self._clock.read().wall
        values = {
            "id": uuid7(),
            "run_id": run.run_id,
            "set_name": run.set_name,
            "engine": run.engine,
            "state": run.state,
            "detail": recordable(run.detail),
            "archive_id": archive.id if archive else "",
            "bytes": run.bytes,
            "frozen_ms": dict(run.frozen_ms or {}),
            "started_at": run.started_at,
            "ended_at": now,
        }

        def work(connection: sqlite3.Connection) -> list[Row]:
            _trouble(connection, run)
            rows = [self._row("backup_run", ("host", "id"), values, now)]
            if archive is None:
                return rows
            _insert(connection, archive, run.run_id or "")
            _verified(connection, archive.engine, archive.id, microseconds(now), good=True)
            _frozen(connection, run)
            return [self._told(archive), *rows]

        await self._spool.promise(work)

    async def rebuild(self, engine: str, found: Sequence[Archive]) -> None:
        """Make the catalogue agree with what an engine holds; what nobody here has verified is not called so."""
        now = microseconds(self._clock.read().wall)

        def work(connection: sqlite3.Connection) -> list[Row]:
            new = [archive for archive in found if _insert(connection, archive, "")]
            there = {archive.id for archive in found}
            _mark_deleted(connection, engine, _ids(connection, engine) - there, now)
            return [self._told(archive) for archive in new]

        await self._spool.promise(work)

    async def verified(self, engine: str, archive_id: str, *, good: bool) -> None:
        """Record that an archive was read whole."""
        now = microseconds(self._clock.read().wall)
        await self._state.write(lambda connection: _verified(connection, engine, archive_id, now, good=good))

    async def drilled(self, entry: Entry, *, ok: bool, seconds: float, detail: str = "", repair: str = "") -> None:
        """Record that an archive was restored to see whether it can be; only one that went well is a proof."""
        now = self._clock.read().wall
        values = {
            "id": uuid7(),
            "engine": entry.engine,
            "archive_id": entry.id,
            "set_name": entry.set_name,
            "ok": ok,
            "detail": recordable(detail),
            "seconds": seconds,
            "ended_at": now,
        }

        def work(connection: sqlite3.Connection) -> list[Row]:
            stored = {**values, "repair": repair, "ended_at": microseconds(now)}
            connection.execute(
                "INSERT INTO backup_drill VALUES (:id, :engine, :archive_id, :set_name, :ok, :detail, :repair,"
                " :seconds, :ended_at)",
                stored,
            )
            if ok:
                connection.execute(
                    "UPDATE backup_archive SET proven_at = ?, proven_seconds = ? WHERE engine = ? AND id = ?",
                    (microseconds(now), seconds, entry.engine, entry.id),
                )
            return [self._row("backup_drill", ("host", "id"), values, now)]

        await self._spool.promise(work)

    async def drills(self) -> Mapping[tuple[str, str], Drill]:
        """Return by set and engine the last drill, also of an archive that is no more."""
        query = (  # SQLite takes the other columns from the row that has the maximum
            "SELECT set_name, engine, archive, ok, detail, repair, seconds, MAX(ended_at)"
            " FROM backup_drill GROUP BY set_name, engine"
        )

        def work(connection: sqlite3.Connection) -> Mapping[tuple[str, str], Drill]:
            rows = connection.execute(query)
            return {
                (name, engine): Drill(archive, bool(ok), detail, repair, seconds, moment(at))
                for name, engine, archive, ok, detail, repair, seconds, at in rows
            }

        return await self._state.read(work)

    async def deleted(self, engine: str, ids: Collection[str]) -> None:
        """Record that archives are no more."""
        now = microseconds(self._clock.read().wall)
        await self._state.write(lambda connection: _mark_deleted(connection, engine, ids, now))

    async def hold(self, set_name: str, engine: str, why: str) -> None:
        """Record why nothing of a set is deleted at an engine; "" lets go."""
        now = microseconds(self._clock.read().wall)

        def work(connection: sqlite3.Connection) -> None:
            if not why:
                connection.execute("DELETE FROM backup_held WHERE set_name = ? AND engine = ?", (set_name, engine))
                return
            connection.execute(
                "INSERT INTO backup_held VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET why = excluded.why",
                (set_name, engine, recordable(why), now),
            )

        await self._state.write(work)

    async def held(self) -> Mapping[tuple[str, str], str]:
        """Return by set and engine why nothing is deleted there."""
        query = "SELECT set_name, engine, why FROM backup_held"
        return await self._state.read(lambda connection: {(a, b): why for a, b, why in connection.execute(query)})

    async def troubles(self, set_name: str) -> list[Trouble]:
        """Return what went wrong with a set, by engine."""
        query = "SELECT engine, what, repair FROM backup_trouble WHERE set_name = ? ORDER BY engine"
        rows = await self._state.read(lambda connection: connection.execute(query, (set_name,)).fetchall())
        return [Trouble(*row) for row in rows]

    async def frozen_ms(self) -> Mapping[str, Mapping[str, int]]:
        """Return by set for how many milliseconds each container stood still in its last run that went well."""
        query = "SELECT set_name, container, ms FROM backup_frozen ORDER BY set_name, container"
        found: dict[str, dict[str, int]] = {}
        for name, container, ms in await self._state.read(lambda connection: connection.execute(query).fetchall()):
            found.setdefault(name, {})[container] = ms
        return found

    async def entries(self, set_name: str = "", engine: str = "") -> list[Entry]:
        """Return the archives that are there, oldest first; "" is any set, any engine."""
        where = "deleted_at IS NULL AND ? IN ('', set_name) AND ? IN ('', engine) ORDER BY at, engine, id"
        return await self._state.read(lambda connection: _entries(connection, where, (set_name, engine)))

    async def newest(self) -> Mapping[str, Entry]:
        """Return the newest archive of each set; one that is dirty, or was found damaged, is none."""
        where = "deleted_at IS NULL AND verdict <> 'dirty' AND verified_ok IS NOT 0 ORDER BY at, engine, id"
        found = await self._state.read(lambda connection: _entries(connection, where, ()))
        return {entry.set_name: entry for entry in found}

    async def proofs(self) -> Mapping[str, Entry | None]:
        """Return of each set the archive that was proven last, of those that are there; None where none was."""
        found: dict[str, Entry | None] = {}
        for entry in await self.entries():
            last = found.setdefault(entry.set_name, None)
            if entry.proven_at and (last is None or last.proven_at is None or entry.proven_at >= last.proven_at):
                found[entry.set_name] = entry
        return found

    def _told(self, archive: Archive) -> Row:
        values = {name: getattr(archive, name) for name in _TOLD}
        return self._row("backup_archive", ("host", "engine", "id"), values, archive.at)

    def _row(self, table: str, key: tuple[str, ...], values: Mapping[str, Any], at: datetime) -> Row:
        return Row(table, key, {"host": self._host, **values}, at)


_TOLD = ("engine", "id", "set_name", "at", "verdict", "sha256", "bytes", "stored_bytes", "files")
_ENTRY = (*_TOLD, "run_id", "verified_at", "verified_ok", "proven_at", "proven_seconds", "deleted_at")


def there(connection: sqlite3.Connection) -> Sequence[Entry]:
    """Return the archives that are there, oldest first, for who has state.db and no agent."""
    return _entries(connection, "deleted_at IS NULL ORDER BY at, engine, id", ())


def _insert(connection: sqlite3.Connection, archive: Archive, run_id: str) -> bool:
    """Write an archive down; return False where it is known, which it is again where it was thought to be gone."""
    values = [getattr(archive, name) for name in _TOLD]
    values[_TOLD.index("at")] = microseconds(archive.at)
    connection.execute(
        "UPDATE backup_archive SET deleted_at = NULL WHERE engine = ? AND id = ?", (archive.engine, archive.id)
    )
    marks = ", ".join("?" * (len(values) + 1))
    done = connection.execute(
        f"INSERT OR IGNORE INTO backup_archive ({', '.join(_TOLD)}, run_id) VALUES ({marks})",  # noqa: S608 - constants
        (*values, run_id),
    )
    return done.rowcount == 1


def _trouble(connection: sqlite3.Connection, run: RunEnd) -> None:
    key = (run.set_name, run.engine)
    connection.execute("DELETE FROM backup_trouble WHERE set_name = ? AND engine = ?", key).close()
    if run.detail:
        values = (*key, recordable(run.detail), recordable(run.repair))
        connection.execute("INSERT INTO backup_trouble VALUES (?, ?, ?, ?)", values).close()


def _frozen(connection: sqlite3.Connection, run: RunEnd) -> None:
    connection.execute("DELETE FROM backup_frozen WHERE set_name = ?", (run.set_name,))
    still = [(run.set_name, container, ms) for container, ms in (run.frozen_ms or {}).items()]
    connection.executemany("INSERT INTO backup_frozen VALUES (?, ?, ?)", still)


def _verified(connection: sqlite3.Connection, engine: str, archive_id: str, now: int, *, good: bool) -> None:
    connection.execute(
        "UPDATE backup_archive SET verified_at = ?, verified_ok = ? WHERE engine = ? AND id = ?",
        (now, good, engine, archive_id),
    )


def _mark_deleted(connection: sqlite3.Connection, engine: str, ids: Collection[str], now: int) -> None:
    connection.executemany(
        "UPDATE backup_archive SET deleted_at = ? WHERE engine = ? AND id = ? AND deleted_at IS NULL",
        [(now, engine, one) for one in ids],
    )


def _ids(connection: sqlite3.Connection, engine: str) -> set[str]:
    query = "SELECT id FROM backup_archive WHERE engine = ? AND deleted_at IS NULL"
    return {one for (one,) in connection.execute(query, (engine,))}


def _entries(connection: sqlite3.Connection, where: str, values: tuple[object, ...]) -> list[Entry]:
    """Return archives; `where` is written in this module."""
    query = f"SELECT {', '.join(_ENTRY)} FROM backup_archive WHERE {where}"  # noqa: S608
    found = []
    for row in connection.execute(query, values):
        known = dict(zip(_ENTRY, row, strict=True))
        for name in ("at", "verified_at", "proven_at", "deleted_at"):
            known[name] = None if known[name] is None else moment(known[name])
        known["verified_ok"] = None if known["verified_ok"] is None else bool(known["verified_ok"])
        found.append(Entry(**known))
    return found
