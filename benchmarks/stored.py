"""What a sample takes in PostgreSQL, and how fast ninety days are asked, on plain PostgreSQL and on TimescaleDB.

Samples are this host's own, taken one after the other as if each were ten seconds later, with ten containers beside.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks import process
from homelab_agent.core.clock import Drift, Instant, SystemClock
from homelab_agent.core.spool import Row
from homelab_agent.database import partitions
from homelab_agent.database.catalogue import Catalogue
from homelab_agent.database.database import Database
from homelab_agent.database.editions import TIMESCALE
from homelab_agent.database.pool import Connection
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.level import HOUR
from homelab_agent.database.rollups.upkeep import Rollups
from homelab_agent.database.settings import DatabaseSettings
from homelab_agent.metrics import rows
from homelab_agent.metrics.collection import Collection
from homelab_agent.metrics.collectors.containers import Containers
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.sample import Quality, Sample
from homelab_agent.metrics.settings import MetricsSettings
from homelab_agent.metrics.ticker import Tick
from tests import machines
from tests.filled import tables
from tests.neighbours import postgres, postgres_kinds
from tests.recorded import Recorded
from tests.rolled import a_run
from tests.shipping import reaching

SAMPLES = 4320
INTERVAL = timedelta(seconds=10)
ASKED = 41
_DAYS = 90
_SIZE = """
SELECT coalesce(sum(pg_total_relation_size(pg_class.oid)), 0)::bigint FROM pg_class
 WHERE relkind = 'r' AND (relname ~ '^(\\w+_sample|tick)(_y\\d+m\\d+)?$' AND relnamespace = 'homelab'::regnamespace)
"""
_CHUNKS = """
SELECT coalesce(sum(size.total_bytes), 0)::bigint FROM timescaledb_information.hypertables,
       LATERAL hypertable_detailed_size(format('%I.%I', hypertable_schema, hypertable_name)::regclass) AS size
 WHERE hypertable_name ~ '^(\\w+_sample|tick)$'
"""
_COLUMNSTORE = "SELECT compress_chunk(show_chunks(format('homelab.%I', $1::text)::regclass))"
_QUESTIONS = {
    "30 d by 1 h": """
        SELECT date_bin('1 hour', time, 'epoch'), sum(busy_pct_avg * busy_pct_count) / sum(busy_pct_count),
               max(busy_pct_max)
          FROM cpu_1h WHERE host = 'here' AND time >= $1::timestamptz - interval '30 days' AND time < $1
         GROUP BY 1 ORDER BY 1""",
    "24 h by 5 min": """
        SELECT date_bin('5 minutes', time, 'epoch'), sum(busy_pct_avg * busy_pct_count) / sum(busy_pct_count),
               max(busy_pct_max)
          FROM cpu_1m WHERE host = 'here' AND time >= $1::timestamptz - interval '24 hours' AND time < $1
         GROUP BY 1 ORDER BY 1""",
}
_BOUNDS = {"30 d by 1 h": 30.0, "24 h by 5 min": 5.0}
_PAST = """
SELECT number AS n, $1::timestamptz - number * interval '10 seconds' AS at FROM generate_series(1, $2::bigint) AS number
"""


def run(*, minutes: float) -> None:
    """Store a few hours' samples, then ninety days of one family, in each edition; ask both in turn."""
    del minutes
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(postgres.running(kind))
            for name, kind in {"plain": postgres_kinds.WHEEL, "TimescaleDB": postgres_kinds.TIMESCALE}.items()
        }
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="homelab-agent-bench-")))
        asyncio.run(_measure(servers, directory))


async def _measure(servers: Mapping[str, postgres.Postgres], directory: Path) -> None:
    clock = SystemClock()
    now = HOUR.floor(clock.read().wall)
    taken = await _samples(now - SAMPLES * INTERVAL, directory / "containers")
    for name, server in servers.items():
        async with reaching(server.url, directory, clock) as database, database.acquire() as connection:
            await _stored(name, database, connection, taken)
            await connection.execute("TRUNCATE cpu_sample")
            await _seed(database, connection, now)
    found: dict[str, dict[str, list[float]]] = {name: {question: [] for question in _QUESTIONS} for name in servers}
    async with (
        reaching(servers["plain"].url, directory, clock) as plain,
        reaching(servers["TimescaleDB"].url, directory, clock) as timescale,
    ):
        for _ in range(ASKED):
            for name, database in {"plain": plain, "TimescaleDB": timescale}.items():
                for question, query in _QUESTIONS.items():
                    began = time.perf_counter()
                    answer = await database.fetch(query, now)
                    found[name][question].append(1000 * (time.perf_counter() - began))
                    assert len(answer) in {720, 288}, (name, question, len(answer))
    for question, bound in _BOUNDS.items():
        theirs, ours = found["TimescaleDB"][question], found["plain"][question]
        middle = statistics.median(theirs)
        words = f"median of {ASKED}"
        process.figure(
            f"{question}: TimescaleDB, {words}", middle, "ms", bound=bound, note=f"fastest {min(theirs):.2f} ms"
        )
        process.figure(
            f"{question}: plain, {words}",
            statistics.median(ours),
            "ms",
            bound=round(2 * middle, 1),
            note=f"fastest {min(ours):.2f} ms",
        )


async def _samples(first: datetime, directory: Path) -> Sequence[Sequence[Row]]:
    """Return the rows of each sample."""
    host, settings = Host("here"), MetricsSettings()
    collection = Collection(host, settings)
    recorded = machines.with_groups(Recorded(directory))
    containers = Containers(recorded.host, settings)
    ids = [f"{number:064x}" for number in range(10)]
    containers.learn({}, frozenset(ids))
    found = []
    for number in range(SAMPLES):
        at = first + number * INTERVAL
        instant = Instant(at, time.monotonic(), time.monotonic())
        taken = await collection.take(Tick(at, instant, 0, Drift(0.0, 0.0)))
        families = dict(taken.families)
        if number % 6 == 0:
            recorded.now += 60
            for place, one in enumerate(ids):
                used = f"usage_usec {2_500_000 + number * (place + 1) * 997}\nthrottled_usec 0\n"
                machines.container(recorded, f"docker/{one}", cpu_stat=used)
            families.update(containers.collect())
        quality = Quality(
            at, at, 0.4, round(taken.seconds * 1000, 3), 0.0, 0.0, 0, 0, spooled=False, clock_synchronised=True,
            collectors=taken.collectors,
        )  # fmt: skip
        found.append(rows.of_sample(Sample(at, families, quality), "here"))
    return found


async def _stored(name: str, database: Database, connection: Connection, taken: Sequence[Sequence[Row]]) -> None:
    catalogue = Catalogue()
    before = await _size(database, connection)
    for begin in range(0, len(taken), 300):
        await _insert(catalogue, connection, [row for parcel in taken[begin : begin + 300] for row in parcel])
    count = sum(map(len, taken)) / len(taken)
    grown = (await _size(database, connection) - before) / len(taken)
    bound = 2900 if name == "plain" else None
    process.figure(f"{name}: stored by a sample of {count:.1f} rows", grown / 1000, "kB", bound=bound and bound / 1000)
    if _is_timescale(database):
        for table in await tables(connection):
            if table.name.endswith("_sample") or table.name == "tick":
                await connection.fetch(_COLUMNSTORE, table.name)
        grown = (await _size(database, connection)) / len(taken)
        process.figure(f"{name}: the same in the columnstore", grown / 1000, "kB", bound=0.45)


async def _insert(catalogue: Catalogue, connection: Connection, together: Sequence[Row]) -> None:
    """Insert as the shipper does."""
    fit, rejected = await catalogue.sort(connection, together)
    assert not rejected, rejected[0]
    arguments = [
        value for shape, group in fit.items() for value in catalogue.part(shape).arguments(row.values for row in group)
    ]
    await connection.fetchrow(catalogue.insert(fit), *arguments)


async def _size(database: Database, connection: Connection) -> int:
    return int(await connection.fetchval(_CHUNKS if _is_timescale(database) else _SIZE))


async def _seed(database: Database, connection: Connection, now: datetime) -> None:
    """Put ninety days of the host's CPU at a sample each ten seconds, and roll them up."""
    [cpu] = [table for table in await tables(connection) if table.name == "cpu_sample"]
    if cpu.divided:
        await partitions.ensure(
            connection, cpu.name, {partitions.month(now - timedelta(days=days)) for days in range(_DAYS + 2)}
        )
    await connection.execute("INSERT INTO entity VALUES (1, 'here', 'cpu', 'total', 'total')")
    count = _DAYS * 8640
    await connection.execute(cpu.insert(_PAST, {"entity_id": "1"}), now, count, timeout=600)
    keep = Keep.of(DatabaseSettings(keep_samples=120, keep_minutes=120))
    await Rollups(database, SystemClock(), keep).roll(a_run())
    await connection.execute("ANALYZE")


def _is_timescale(database: Database) -> bool:
    return database.edition is not None and database.edition.name == TIMESCALE
