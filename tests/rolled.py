"""A series of a test's own, what it should come to by the arithmetic of this module, and what PostgreSQL says."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg

from homelab_agent.core.jobs import Run
from homelab_agent.database import editions, migrations
from homelab_agent.database.address import Address
from homelab_agent.database.partitions import ensure, month
from homelab_agent.database.pool import Connection
from homelab_agent.database.rollups import plain, series, timescale
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.level import LEVELS, Level
from homelab_agent.database.rollups.series import Series
from tests.neighbours.postgres import Postgres

TABLE = """
CREATE TABLE homelab.probe_sample (entity_id bigint NOT NULL, time timestamptz NOT NULL, heat real, total bigint,
    busy boolean, note text, PRIMARY KEY (entity_id, time));
SELECT homelab.make_series('homelab.probe_sample', 'entity_id');
INSERT INTO homelab.entity SELECT id, 'here', 'probe', id::text, 'number ' || id FROM generate_series(1, 3) AS id;
"""
_FILES = {
    edition: [each for each in migrations.load(edition) if each.room == "database"]
    for edition in (editions.PLAIN, editions.TIMESCALE)
}
KEEP = Keep(timedelta(days=10), timedelta(days=36500), timedelta(days=36500), timedelta(days=8))
MEASURES = ("heat", "total", "busy")
_INSERT = (
    "INSERT INTO homelab.probe_sample (entity_id, time, heat, total, busy) SELECT * FROM"
    " unnest($1::bigint[], $2::timestamptz[], $3::real[], $4::bigint[], $5::boolean[]) ON CONFLICT DO NOTHING"
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of the series."""

    entity: int
    time: datetime
    heat: float | None = None
    total: int | None = None
    busy: bool | None = None


@dataclass(slots=True)
class Probe:
    """The series in a database of either edition; `minutes` says whether the plain one makes them."""

    connection: asyncpg.Connection
    edition: str
    series: Series
    minutes: bool = True

    async def insert(self, samples: Sequence[Sample]) -> None:
        """Insert rows in one statement, as the shipper does; those that are there stay as they are."""
        if self.edition == editions.PLAIN:
            await ensure(self.connection, self.series.name, {month(each.time) for each in samples})
        rows = [(each.entity, each.time, each.heat, each.total, each.busy) for each in samples]
        if rows:
            await self.connection.execute(_INSERT, *map(list, zip(*rows, strict=True)))

    async def roll(self, now: datetime, keep: Keep = KEEP) -> None:
        """Do what the agent's job does at that time; on TimescaleDB, also what its policies do."""
        if self.edition == editions.PLAIN:
            await plain.roll(self.connection, self.series, now, minutes=self.minutes)
        else:
            await timescale.refresh(self.connection, self.series, keep, now)
            await timescale.adopt(self.connection, [self.series], keep)
            await run_policies(self.connection, timescale.REFRESH)

    async def clear(self) -> None:
        """Empty the series and its rollups, as if none had ever been there."""
        self.minutes = True
        kept = [f"homelab.{self.series.rollup(level)}" for level in LEVELS]
        names = ["homelab.probe_sample", *kept, "homelab.rollup", "homelab.rollup_late"]
        await self.connection.execute(f"TRUNCATE {', '.join(names)}")

    async def rows(self, level: Level) -> Sequence[asyncpg.Record]:
        """Return what the level's view says."""
        return await self.connection.fetch(f"SELECT * FROM homelab.{self.series.view(level)} ORDER BY time, entity_id")

    async def check(self, samples: Iterable[Sample]) -> None:
        """Fail unless every level says what these samples come to."""
        samples = list(samples)
        for level in LEVELS:
            found = await self.rows(level)
            wanted = come_to(samples, level)
            assert [(row["entity_id"], row["time"]) for row in found] == list(wanted), level
            for row, want in zip(found, wanted.values(), strict=True):
                same(dict(row), want)


@asynccontextmanager
async def probing(server: Postgres, *, table: str = TABLE) -> AsyncIterator[Probe]:
    """Give the series, with its rollups made."""
    connection = await asyncpg.connect(**Address.of_url(server.url).options)
    try:
        edition = (await editions.prepare(connection)).name
        await migrations.apply(connection, _FILES[edition], edition=edition)
        await connection.execute(table)
        if edition == editions.TIMESCALE:  # policies run when the test says so
            await connection.execute("SELECT _timescaledb_functions.stop_background_workers()")
        yield await made(connection, edition)
    finally:
        await connection.close()


async def made(connection: asyncpg.Connection, edition: str) -> Probe:
    """Return the series, with its rollups as an agent makes them when it starts."""
    [found] = await series.read(connection, edition)
    there = await series.relations(connection)
    await (timescale if edition == editions.TIMESCALE else plain).make(connection, found, there)
    return Probe(connection, edition, found)


def a_run() -> Run:
    """Return what a job is given, that nobody follows."""
    return Run("1", "database.rollups", "command", lambda _: None, lambda _: None, lambda _: nullcontext())


async def run_policies(connection: Connection, policy: str) -> None:
    """Run TimescaleDB's policies of one kind, as its scheduler does when it is their time."""
    query = "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = $1 AND job_id >= 1000 ORDER BY job_id"
    for row in await connection.fetch(query, policy):
        await connection.execute("CALL run_job($1)", row["job_id"])


def come_to(samples: Iterable[Sample], level: Level) -> Mapping[tuple[int, datetime], Mapping[str, object]]:
    """Return what samples come to, by subject and bucket, in time order."""
    buckets: dict[tuple[int, datetime], list[Sample]] = {}
    for each in samples:
        seconds = int(each.time.timestamp() // level.width.total_seconds() * level.width.total_seconds())
        buckets.setdefault((each.entity, datetime.fromtimestamp(seconds, UTC)), []).append(each)
    wanted = {}
    for key, group in sorted(buckets.items(), key=lambda item: (item[0][1], item[0][0])):
        wanted[key] = {"samples": len(group), "label": f"number {key[0]}", "host": "here"}
        for name in MEASURES:
            known = [float(value) for each in group if (value := getattr(each, name)) is not None]
            wanted[key] |= {
                f"{name}_avg": sum(known) / len(known) if known else None,
                f"{name}_min": min(known, default=None),
                f"{name}_max": max(known, default=None),
                f"{name}_count": len(known),
            }
    return wanted


def same(row: Mapping[str, object], wanted: Mapping[str, object]) -> None:
    """Fail where a row is not as wanted; a real has six digits."""
    for name, value in wanted.items():
        found = row[name]
        close = (
            isinstance(value, float)
            and isinstance(found, float | int)
            and math.isclose(found, value, rel_tol=1e-5, abs_tol=1e-4)
        )
        assert found == value or close, (row["time"], name, found, value)


def every(seconds: float, begin: datetime, count: int, *, entity: int = 1) -> list[Sample]:
    """Return samples at a distance from each other, of which now and then something is not known."""
    return [
        Sample(
            entity,
            begin + timedelta(seconds=seconds * number),
            None if number % 7 == 0 else float(number % 100),
            None if number % 11 == 0 else number * 2**33,
            number % 3 == 0,
        )
        for number in range(count)
    ]
