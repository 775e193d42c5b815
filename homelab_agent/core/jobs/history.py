"""The runs in state.db (tables `job_run` and `job_slot`), and their way to PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from homelab_agent.core.clock import MICROSECOND, microseconds, moment
from homelab_agent.core.jobs.run import RunRecord
from homelab_agent.core.spool import Row, Scalar, Spool
from homelab_agent.core.state import State

KEPT_DAYS = 90
KEPT_PER_JOB = 1000
KEPT_ALWAYS = 20
"""So many runs of each job are kept at any age: a yearly one has a history, a wrong clock erases little."""

_COLUMNS = "id, job, trigger, state, requested_at, detail, repair, started_at, ended_at"


class RunHistory:
    """Reads and writes the runs; every write is on disk when it returns.

    Every method raises `StateUnavailable` when state.db cannot be written or read.
    """

    def __init__(self, state: State, spool: Spool, host: str) -> None:
        self._state = state
        self._spool = spool
        self._host = host
        self._recovered: dict[str, RunRecord] = {}

    async def begin(self, record: RunRecord, schedule: str = "", handled: datetime | None = None) -> None:
        """Record a new run; in the same transaction its job's slots as dealt with up to `handled`."""

        def work(connection: sqlite3.Connection) -> None:
            _save(connection, record)
            if handled is not None:
                _handle(connection, record.job, schedule, handled)

        await self._state.write(work)

    async def update(self, record: RunRecord) -> None:
        """Record a run as it stands now."""
        await self._state.write(lambda connection: _save(connection, record))

    async def end(self, record: RunRecord) -> None:
        """Record how a run ended, and in the same transaction send the row on its way to PostgreSQL."""
        await self._end([record])

    async def recover(self, now: datetime) -> list[RunRecord]:
        """Record as interrupted what an agent that was killed left unfinished; return those runs.

        Called again, also after a try that failed, it returns them all. Rows of an earlier release that had ended but
        may not have reached the spool are put there again: the same row twice is one.
        """
        # A write that changes nothing costs nothing, and opens the database where that has become possible.
        unsent = await self._state.write(lambda connection: _select(connection, "spooled = 0"))
        interrupted = {record.id: _interrupted(record, now) for record in unsent if not record.ended}
        self._recovered |= interrupted
        if unsent:
            await self._end([interrupted.get(record.id, record) for record in unsent])
        return list(self._recovered.values())

    async def slots(self) -> dict[str, tuple[str, datetime]]:
        """Return each job's schedule as it was then, and up to when its slots are dealt with."""

        def work(connection: sqlite3.Connection) -> dict[str, tuple[str, datetime]]:
            rows = connection.execute("SELECT job, schedule, handled_at FROM job_slot")
            return {job: (schedule, moment(handled)) for job, schedule, handled in rows}

        return await self._state.read(work)

    async def handle(self, job: str, schedule: str, handled: datetime) -> None:
        """Record that a job's slots are dealt with up to `handled`."""
        await self._state.write(lambda connection: _handle(connection, job, schedule, handled))

    async def last(self) -> list[RunRecord]:
        """Return each job's last run that has ended."""
        newest = "rowid IN (SELECT max(rowid) FROM job_run WHERE ended_at IS NOT NULL GROUP BY job)"
        return await self._state.read(lambda connection: _select(connection, newest))

    async def newest(self, job: str, limit: int) -> list[RunRecord]:
        """Return the newest runs, of one job or of all ("")."""
        return await self._state.read(
            lambda connection: _select(connection, "? IN ('', job) ORDER BY rowid DESC LIMIT ?", (job, limit))
        )

    async def get(self, run_id: str) -> RunRecord | None:
        """Return one run."""
        found = await self._state.read(lambda connection: _select(connection, "id = ?", (run_id,)))
        return found[0] if found else None

    async def _end(self, records: Sequence[RunRecord]) -> None:
        def work(connection: sqlite3.Connection) -> list[Row]:
            for record in records:
                _save(connection, record)
            connection.executemany("UPDATE job_run SET spooled = 1 WHERE id = ?", [(r.id,) for r in records])
            for job in {record.job for record in records}:
                _prune(connection, job)
            return [self._row(record) for record in records]

        await self._spool.promise(work)

    def _row(self, record: RunRecord) -> Row:
        values: dict[str, Scalar] = {
            "id": record.id,
            "host": self._host,
            "job": record.job,
            "trigger": record.trigger,
            "state": record.state,
            "detail": record.detail,
            "repair": record.repair,
            "requested_at": record.requested_at,
            "started_at": record.started_at,
            "ended_at": record.ended_at,
        }
        return Row("job_run", ("id",), values, record.ended_at or record.requested_at)


def _save(connection: sqlite3.Connection, record: RunRecord) -> None:
    connection.execute(
        f"INSERT INTO job_run ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - constants
        " ON CONFLICT (id) DO UPDATE SET state = excluded.state, detail = excluded.detail,"
        " repair = excluded.repair, started_at = excluded.started_at, ended_at = excluded.ended_at",
        (
            record.id,
            record.job,
            record.trigger,
            record.state,
            microseconds(record.requested_at),
            record.detail,
            record.repair,
            record.started_at and microseconds(record.started_at),
            record.ended_at and microseconds(record.ended_at),
        ),
    )


def _interrupted(record: RunRecord, now: datetime) -> RunRecord:
    return replace(
        record,
        state="interrupted",
        detail="the agent ended " + ("while it ran" if record.state == "running" else "before it began"),
        repair=f"homelab-agent jobs run {record.job}",
        ended_at=now,
    )


def _prune(connection: sqlite3.Connection, job: str) -> None:
    """Keep of a job the newest runs, by number and by age; what is not in the spool yet stays."""
    newest = "SELECT rowid FROM job_run WHERE job = :job ORDER BY rowid DESC LIMIT"
    connection.execute(
        "DELETE FROM job_run WHERE job = :job AND spooled = 1 AND ("  # noqa: S608 - constants
        f" rowid NOT IN ({newest} {KEPT_PER_JOB})"
        f" OR rowid NOT IN ({newest} {KEPT_ALWAYS})"
        " AND requested_at < (SELECT max(requested_at) FROM job_run WHERE job = :job) - :kept)",
        {"job": job, "kept": timedelta(days=KEPT_DAYS) // MICROSECOND},
    )


def _handle(connection: sqlite3.Connection, job: str, schedule: str, handled: datetime) -> None:
    connection.execute(
        "INSERT INTO job_slot (job, schedule, handled_at) VALUES (?, ?, ?)"
        " ON CONFLICT (job) DO UPDATE SET schedule = excluded.schedule, handled_at = excluded.handled_at",
        (job, schedule, microseconds(handled)),
    )


def _select(connection: sqlite3.Connection, where: str, values: tuple[object, ...] = ()) -> list[RunRecord]:
    query = f"SELECT {_COLUMNS} FROM job_run WHERE {where}"  # noqa: S608 - `where` is written in this module
    return [_record(*row) for row in connection.execute(query, values)]


def _record(*row: Any) -> RunRecord:
    run_id, job, trigger, state, requested_at, detail, repair, started_at, ended_at = row
    return RunRecord(
        id=run_id,
        job=job,
        trigger=trigger,
        state=state,
        requested_at=moment(requested_at),
        detail=detail,
        repair=repair,
        started_at=None if started_at is None else moment(started_at),
        ended_at=None if ended_at is None else moment(ended_at),
    )
