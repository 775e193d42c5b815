"""The reference's table read in order of time and retold, a batch a transaction with the mark of how far that is.

Killed anywhere, the next run goes on from the last mark, and repeats nothing. A batch ends with an hour, so that of
each hour of samples too old to be kept all are known when it is rolled up.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import asyncpg

from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.core.spool import Row
from homelab_agent.metrics.reference_table import Table
from homelab_agent.metrics.retelling import Record, Retelling, Tally, entity_of

BATCH_ROWS = 5000
MOST_ROWS = 100_000
"""So many are held at most while an hour does not end."""
TARGET, SOURCE = "The agent's database", "The database that is read"
_LOCK_PATIENCE = "10s"
"""A run that was killed may hold it until PostgreSQL has noticed."""

_LOCK = "SELECT pg_advisory_lock(hashtextextended('homelab.reference_import', 0))"
_ENTITIES = "SELECT id, host, family, key, label FROM homelab.entity WHERE family = ANY ($1::text[])"
_FAMILIES = ("cpu", "memory", "filesystem", "network", "temperature")
_MARK = """
SELECT position, rows, state::text AS state FROM homelab.reference_import
 WHERE source = $1 AND relation = $2 AND since = $3 AND hosts = $4
"""
_SET_MARK = """
INSERT INTO homelab.reference_import VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, now(), now())
    ON CONFLICT (source, relation, since, hosts) DO UPDATE
        SET position = excluded.position, rows = excluded.rows, state = excluded.state, moved_at = excluded.moved_at
"""


class ImportUnderWay(AgentError):
    """Another import writes to this database."""

    repair = "wait until it has ended, then give the command again"
    exit_code = Exit.BUSY


class ImportCutShort(AgentError):
    """{side} went away, or refused, after {rows} rows; what is committed stays."""

    repair = "see to the cause, then give the same command again: it goes on from there"
    exit_code = Exit.UNREACHABLE


class Put(Protocol):
    """What became of rows of one table."""

    @property
    def new(self) -> int:
        """How many were not there."""

    @property
    def there(self) -> int:
        """How many were."""

    @property
    def rolled(self) -> int:
        """How many are too old to be kept as they are, and went into hours and days."""


class Store(Protocol):
    """Where rows go (`database.history.History`)."""

    connection: Any

    def putting(self, rows: Sequence[Row]) -> AbstractAsyncContextManager[Mapping[str, Any]]:
        """Give what becomes of rows, in the transaction that writes them."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be imported: rows from `since` on and before `until`; `hosts` by the reference's names."""

    since: datetime | None = None
    until: datetime | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)
    again: bool = False
    dry_run: bool = False

    @property
    def names(self) -> tuple[str, str]:
        """What a mark is known by, beside the table."""
        hosts = ",".join(f"{old}={new}" for old, new in sorted(self.hosts.items()))
        return self.since.isoformat() if self.since else "", hosts


@dataclass(slots=True)
class Report:
    """What came of it: `puts` by table; `untimely` rows have no time that can be, `before` were taken earlier."""

    total: int
    untimely: int
    before: int
    position: datetime | None
    tally: Tally
    puts: dict[str, list[int]] = field(default_factory=dict)
    joined: Sequence[str] = ()
    seconds: float = 0.0

    def add(self, done: Mapping[str, Put]) -> None:
        """Count what became of a batch's rows."""
        for table, put in done.items():
            counts = self.puts.setdefault(table, [0, 0, 0])
            for at, count in enumerate((put.new, put.there, put.rolled)):
                counts[at] += count


async def run(table: Table, store: Store, asked: Asked, tell: Callable[[Report], None]) -> Report:
    """Import all that the last run has not; `tell` hears after each batch.

    Raises `ImportUnderWay`, `ImportCutShort`, and what `Table` raises.
    """
    began = time.monotonic()
    with side(TARGET):
        last = None if asked.again else await store.connection.fetchrow(_MARK, table.source, table.name, *asked.names)
        known = [entity_of(row) for row in await store.connection.fetch(_ENTITIES, _FAMILIES)]
    retelling = Retelling(known, asked.hosts, json.loads(last["state"]) if last else None)
    position = last["position"] if last else None
    with side(SOURCE):
        survey = await table.survey(position, asked.since, asked.until)
    report = Report(survey.rows, survey.untimely, last["rows"] if last else 0, position, retelling.tally)
    tell(report)
    writing: asyncio.Task[None] | None = None
    names = (table.source, table.name, *asked.names)
    try:
        async for batch in _by_hours(_careful(table.records(position, asked.since, asked.until), report)):
            rows = retelling.take(batch)
            mark = (batch[-1].time, report.before + retelling.tally.read, json.dumps(retelling.state()))
            if writing is not None:  # PostgreSQL writes a batch while the next one is read
                await writing
            if not asked.dry_run:
                writing = asyncio.create_task(_put(store, rows, report, names, mark), name="writes a batch")
            report.seconds = time.monotonic() - began
            tell(report)
    finally:
        if writing is not None:
            await writing
    report.seconds = time.monotonic() - began
    report.joined = [f"{host} {label}: {entity.key}" for (host, _, label), entity in retelling.lines.joined.items()]
    return report


async def _put(
    store: Store, rows: Sequence[Row], report: Report, names: tuple[str, ...], mark: tuple[datetime, int, str]
) -> None:
    """Write a batch, and the mark: up to when, how many rows, and what the next one is seen against."""
    with side(TARGET, report):
        async with store.putting(rows) as done:
            await store.connection.execute(_SET_MARK, *names, *mark)
    report.add(done)
    report.position = mark[0]


async def lock(connection: Any) -> None:
    """Have this session be the one that imports, until it ends; raises `ImportUnderWay`."""
    await connection.execute(f"SET lock_timeout = '{_LOCK_PATIENCE}'")
    try:
        await connection.execute(_LOCK)
    except asyncpg.LockNotAvailableError:
        raise ImportUnderWay from None
    await connection.execute("SET lock_timeout = 0")


async def _careful(records: AsyncIterator[Sequence[Record]], report: Report) -> AsyncIterator[Sequence[Record]]:
    """Yield what comes; an error on the way is the source's."""
    while True:
        with side(SOURCE, report):
            found = await anext(records, None)
        if found is None:
            return
        yield found


async def _by_hours(parts: AsyncIterator[Sequence[Record]]) -> AsyncIterator[Sequence[Record]]:
    """Yield whole hours, some thousand rows at a time; where an hour has too many, whole times."""
    held: list[Record] = []
    async for part in parts:
        held += part
        if len(held) < BATCH_ROWS:
            continue
        cut = _cut(held, timedelta(hours=1)) or (_cut(held, timedelta()) if len(held) >= MOST_ROWS else 0)
        if cut:
            yield held[:cut]
            held = held[cut:]
    if held:
        yield held


def _cut(held: Sequence[Record], width: timedelta) -> int:
    """Return where the last hour begins, or with no width the last time; 0 where that is all there is."""
    last = held[-1].time
    begin = last.replace(minute=0, second=0, microsecond=0) if width else last
    at = len(held)
    while at and held[at - 1].time >= begin:
        at -= 1
    return at


@contextmanager
def side(which: str, report: Report | None = None) -> Iterator[None]:
    """Say which of the two databases went wrong, and how far it had come."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        rows = f"{report.tally.read:,}" if report else "no"
        raise ImportCutShort(side=which, rows=rows, cause=_what_broke(error)) from error


def _what_broke(error: BaseException) -> BaseException | str:
    """Return what ended a connection: that it has ended is all that asyncpg says to who goes on using it."""
    found: BaseException | None = error
    while isinstance(found, asyncpg.InterfaceError | asyncpg.InternalClientError) and not isinstance(found, ValueError):
        found = found.__context__
    return found if isinstance(found, asyncpg.PostgresError | OSError | ValueError) else "the connection was lost"
