"""Every opening to the internet, in state.db from before the door opens; its row for PostgreSQL goes with its end.

Seconds of exposure are counted by the monotonic clock: nobody sets it, and it stands still while the host sleeps.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter

from homelab_agent.core.clock import Clock, Instant, microseconds, moment
from homelab_agent.core.door import Visits
from homelab_agent.core.jobs.run import recordable
from homelab_agent.core.spool import Row, Spool
from homelab_agent.core.state import State
from homelab_agent.core.uuid7 import uuid7

BEAT_SECONDS = 60.0
"""While the door is open it is written down this often that it is: so much of an opening a kill takes along."""

KEPT = 1000
"""So many openings stay in state.db."""

PAUSE_SECONDS = 600.0
"""A door that was shut for no longer than this is open at a stretch: an agent that restarts begins nothing anew."""

KILLED = "the agent ended"

_COLUMNS = (
    "id", "opened_at", "opened_why", "seen_at", "closed_at", "closed_why", "checks", "seconds", "requests", "sources",
    "sent_bytes",
)  # fmt: skip
_TOLD = tuple(name for name in _COLUMNS if name != "seen_at")
_TIMES = frozenset({"opened_at", "seen_at", "closed_at"})


@dataclass(frozen=True, slots=True)
class Exposure:
    """One opening. `closed_at` is None while it lasts; `checks` names those that decided its end, with commas between.

    `seen_at` is when it was last known to be open; `seconds` is how long it lasted until then.
    """

    id: str
    opened_at: datetime
    opened_why: str
    seen_at: datetime
    closed_at: datetime | None = None
    closed_why: str = ""
    checks: str = ""
    seconds: float = 0.0
    requests: int = 0
    sources: int = 0
    sent_bytes: int = 0

    def as_fields(self) -> dict[str, Any]:
        """Return what is told of it, here and in PostgreSQL."""
        return {name: getattr(self, name) for name in _TOLD}


class Ledger:
    """One opening at a time. Every method raises `StateUnavailable` when state.db cannot be written or read."""

    def __init__(self, state: State, spool: Spool, clock: Clock, *, host: str, registry: CollectorRegistry) -> None:
        self.present: Exposure | None = None
        self._state = state
        self._spool = spool
        self._clock = clock
        self._host = host
        self._counted_at = 0.0
        self._written_at = 0.0
        self._shut_at: Instant | None = None
        self._owed: list[Exposure] = []
        self._given_up: list[str] = []
        self._earlier = 0.0
        self._seconds = Counter(
            "homelab_agent_gate_exposure_seconds", "Seconds for which the internet was let in.", registry=registry
        )

    @property
    def owes(self) -> bool:
        """Whether there is something that the disk was not told, or may not have heard."""
        return bool(self._owed or self._given_up)

    @property
    def stretch(self) -> float:
        """For how many seconds the door has been open at a stretch, but for pauses; 0 while it is shut."""
        return self._earlier + self.present.seconds if self.present is not None else 0.0

    async def begin(self, why: str) -> Exposure:
        """Record that the door opens now; it may open when this returns, and not if it raises."""
        if self.present is not None:
            message = f"the door has been open since {self.present.opened_at}"
            raise ValueError(message)
        await self.settle()
        now = self._clock.read()
        begun = Exposure(uuid7(), now.wall, recordable(why), now.wall)

        def work(connection: sqlite3.Connection) -> float:
            earlier = _stretch(_select(connection, "true ORDER BY rowid DESC LIMIT ?", (KEPT,)), now.wall)
            _save(connection, begun)
            return earlier

        try:
            self._earlier = await self._state.write(work)
        except BaseException:
            self._given_up.append(begun.id)  # it may be on disk all the same
            raise
        self.present, self._shut_at = begun, None
        self._counted_at = self._written_at = self._clock.read().monotonic
        return begun

    async def beat(self, visits: Visits) -> None:
        """Note that the door is open still; it is written down when that was not done for `BEAT_SECONDS`."""
        if self.present is None:
            return
        seen = self.present = self._seen(self.present, visits)
        now = self._clock.read().monotonic
        if now - self._written_at >= BEAT_SECONDS:
            await self._state.write(lambda connection: _save(connection, seen))
            self._written_at = now

    def shut(self) -> None:
        """Note that the door was shut now; `end` follows, as soon as it can be."""
        if self.present is not None and self._shut_at is None:
            self._shut_at = self._clock.read()

    async def end(self, why: str, visits: Visits, *, checks: Sequence[str] = ()) -> None:
        """Record that the door is shut, since `shut` or now: say it after it is. Nothing happens if none was begun.

        What the disk does not take is kept and written down before the next opening; meanwhile this raises.
        """
        if self.present is None:
            return
        seen = self._seen(self.present, visits)
        decided = recordable(", ".join(checks))
        self.present = None
        self._owed.append(replace(seen, closed_at=seen.seen_at, closed_why=recordable(why), checks=decided))
        await self.settle()

    async def settle(self) -> None:
        """End what has ended: what the disk did not take, and what an agent that was killed left open.

        That one ends when it was last known to be open.
        """
        owed, present = list(self._owed), self.present.id if self.present is not None else ""
        given_up = list(self._given_up)

        def work(connection: sqlite3.Connection) -> list[Row]:
            connection.executemany("DELETE FROM gate_exposure WHERE id = ?", [(one,) for one in given_up]).close()
            ended = [one for one in owed if _save(connection, one)]
            for one in _select(connection, "closed_at IS NULL AND id != ? ORDER BY rowid", (present,)):
                ended.append(replace(one, closed_at=one.seen_at, closed_why=KILLED))
                _save(connection, ended[-1])
            if ended:
                _prune(connection)
            return [self._row(one) for one in ended]

        await self._spool.promise(work)
        self._owed = [one for one in self._owed if one not in owed]
        self._given_up = [one for one in self._given_up if one not in given_up]

    async def newest(self, limit: int) -> list[Exposure]:
        """Return the newest openings, the newest first; one that lasts is as it stands now."""
        found = await self._state.read(
            lambda connection: list(_select(connection, "true ORDER BY rowid DESC LIMIT ?", (limit,)))
        )
        known = {one.id: one for one in (*self._owed, self.present) if one is not None}
        return [known.get(one.id, one) for one in found if one.id not in self._given_up]

    def _seen(self, exposure: Exposure, visits: Visits) -> Exposure:
        """Return the opening as it stands now, and count the seconds since it was last looked at."""
        now = self._shut_at or self._clock.read()
        seconds = max(0.0, now.monotonic - self._counted_at)
        self._counted_at = now.monotonic
        self._seconds.inc(seconds)
        return replace(
            exposure,
            seen_at=now.wall,
            seconds=exposure.seconds + seconds,
            requests=visits.requests,
            sources=visits.sources,
            sent_bytes=visits.sent_bytes,
        )

    def _row(self, exposure: Exposure) -> Row:
        return Row("gate_exposure", ("host", "id"), {"host": self._host, **exposure.as_fields()}, exposure.seen_at)


def _stretch(openings: Iterable[Exposure], now: datetime) -> float:
    """Return the seconds of earlier openings, the newest first, with which one that begins now is one stretch."""
    seconds = 0.0
    for one in openings:
        if one.closed_at is None or abs((now - one.closed_at).total_seconds()) > PAUSE_SECONDS:
            break
        seconds, now = seconds + one.seconds, one.opened_at
    return seconds


# What follows runs in a transaction of state.db.


def _save(connection: sqlite3.Connection, exposure: Exposure) -> bool:
    """Write an opening down as it stands; return False, and change nothing, if its end is written already."""
    values = {name: getattr(exposure, name) for name in _COLUMNS}
    values |= {name: values[name] and microseconds(values[name]) for name in _TIMES}
    changes = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name != "id")
    done = connection.execute(
        f"INSERT INTO gate_exposure ({', '.join(_COLUMNS)}) VALUES (:{', :'.join(_COLUMNS)})"  # noqa: S608 - constants
        f" ON CONFLICT (id) DO UPDATE SET {changes} WHERE closed_at IS NULL",
        values,
    )
    return done.rowcount == 1


def _select(connection: sqlite3.Connection, where: str, values: tuple[object, ...]) -> Iterator[Exposure]:
    """Yield openings; `where` is written in this module."""
    query = f"SELECT {', '.join(_COLUMNS)} FROM gate_exposure WHERE {where}"  # noqa: S608
    for row in connection.execute(query, values).fetchall():
        known: dict[str, Any] = dict(zip(_COLUMNS, row, strict=True))
        times = {name: None if known[name] is None else moment(known[name]) for name in _TIMES}
        yield Exposure(**{**known, **times})


def _prune(connection: sqlite3.Connection) -> None:
    connection.execute(
        "DELETE FROM gate_exposure WHERE closed_at IS NOT NULL"
        " AND rowid NOT IN (SELECT rowid FROM gate_exposure ORDER BY rowid DESC LIMIT ?)",
        (KEPT,),
    )
