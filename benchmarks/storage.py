"""What a sample takes in PostgreSQL: as it was taken, and what it comes to by minute, hour and day, on each edition.

Two hosts: this one, and a Raspberry Pi with containers whose files are written for the tests. The samples of a day are
a hundred real ones again and again, so counters fall now and then, which compresses worse than a host's own.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

from benchmarks import process
from homelab_agent.core.clock import MICROSECOND, Drift, Instant, SystemClock
from homelab_agent.core.spool import Row
from homelab_agent.database import editions, info
from homelab_agent.database.catalogue import Catalogue
from homelab_agent.database.pool import Connection
from homelab_agent.database.rollups import timescale
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.level import LEVELS
from homelab_agent.database.rollups.upkeep import Rollups
from homelab_agent.database.settings import DatabaseSettings
from homelab_agent.metrics import rows
from homelab_agent.metrics.collection import Collection, Taken
from homelab_agent.metrics.collectors.units import Seen, Units
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.sample import Quality, Sample
from homelab_agent.metrics.settings import MetricsSettings
from homelab_agent.metrics.ticker import Tick
from tests import machines
from tests.neighbours import postgres, postgres_kinds
from tests.neighbours.neighbour import Missing
from tests.rolled import a_run, run_policies
from tests.shipping import reaching

TAKEN = 96
"""A multiple of the six ticks after which the slow families come again."""
APART_SECONDS = 0.1
INTERVAL = timedelta(seconds=10)
AT_ONCE = 3
"""So many samples go with one statement, as they do by default."""
DAYS = 1.0
COMPRESS = """
SELECT compress_chunk(format('%I.%I', chunk_schema, chunk_name)::regclass)
  FROM timescaledb_information.chunks AS chunk
 WHERE (chunk.hypertable_schema, chunk.hypertable_name) IN (
        SELECT hypertable_schema, hypertable_name FROM timescaledb_information.hypertables WHERE compression_enabled
        UNION ALL
        SELECT materialization_hypertable_schema, materialization_hypertable_name
          FROM timescaledb_information.continuous_aggregates WHERE compression_enabled)
"""
CONTAINERS, UNITS = 8, 120
_UNITS_EVERY = 90
_FILES = ("stat", "meminfo", "vmstat", "loadavg", "uptime", "diskstats", "net/dev", "self/io", "self/statm")
_PRESSURE = ("pressure/cpu", "pressure/memory", "pressure/io")


def run(*, minutes: float) -> None:
    """Store a day of both hosts' samples, roll it up, and print what that takes."""
    del minutes
    with tempfile.TemporaryDirectory(prefix="homelab-agent-bench-") as name:
        Path(name).chmod(0o755)
        for called, here in (("this host", True), (f"a Raspberry Pi, {CONTAINERS} containers, {UNITS} units", False)):
            taken = asyncio.run(_this_host() if here else _raspberry(Path(name) / "pi"))
            for kind, bound in ((postgres_kinds.WHEEL, 2900.0), (postgres_kinds.TIMESCALE, 450.0)):
                try:
                    with postgres.running(kind) as server:
                        print(f"{called}, PostgreSQL {kind.name}:")
                        asyncio.run(_store(server.url, Path(name), taken, bound))
                except Missing as missing:
                    print(f"{kind.name}: not here ({missing})")


async def _this_host() -> Sequence[Taken]:
    return await _take(Collection(Host("testhost"), MetricsSettings()))


async def _raspberry(root: Path) -> Sequence[Taken]:
    """Take samples of a tree that has this host's own counters, but sensors, disks, containers and units of a Pi's."""
    found = machines.with_groups(machines.raspberry(root))
    names = [f"{number:08x}" * 8 for number in range(CONTAINERS)]
    for name in names:
        machines.container(found, f"docker/{name}")
    host = Host("testhost", root)
    collection = Collection(host, MetricsSettings())
    collection.containers.learn({}, frozenset(names))
    _copy(root)
    taken = await _take(collection, root)
    seen = {f"some-service-{number}.service": Seen("active", "running", "simple", 0) for number in range(UNITS)}
    units = Units(host, MetricsSettings()).readings(seen)
    return [
        Taken(
            {**each.families, "unit": units if number == 0 else []},
            each.collectors,
            each.seconds,
            each.clock_synchronised,
        )
        for number, each in enumerate(taken)
    ]


def _copy(root: Path) -> None:
    for file in (*_FILES, *_PRESSURE):
        with suppress(OSError):
            content = Path("/proc", file).read_bytes()
            target = root / "proc" / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.replace(b"vda", b"sda"))


async def _take(collection: Collection, root: Path | None = None) -> Sequence[Taken]:
    """Take samples, every sixth of which has the slow families too; the first, which knows no rates, is left out."""
    taken, clock, begin = [], SystemClock(), datetime.fromtimestamp(0, UTC)
    for number in range(TAKEN + 6):
        if root is not None:
            _copy(root)
        now = clock.read()
        due = begin + number * INTERVAL
        taken.append(await collection.take(Tick(due, Instant(due, now.monotonic, now.boot), 0, Drift(0.0, 0.0))))
        await clock.sleep(APART_SECONDS)
    return taken[6:]


def _rows(taken: Sequence[Taken], begin: datetime) -> Iterator[Sequence[Row]]:
    """Yield what goes to PostgreSQL, a statement's rows at a time."""
    count = round(DAYS * timedelta(days=1) / INTERVAL)
    batch: list[Row] = []
    for number in range(count):
        at, one = begin + number * INTERVAL, taken[number % len(taken)]
        quality = Quality(
            scheduled_at=at, started_at=at + number % 997 * MICROSECOND, late_ms=0.137 + number % 997 / 1000,
            total_ms=round(one.seconds * 1000, 3), step=0.0, asleep=0.0, skipped=0, moved_ms=0, spooled=False,
            clock_synchronised=True, collectors=one.collectors,
        )  # fmt: skip
        batch += rows.of_sample(Sample(at, one.families, quality), "testhost")
        if (number + 1) % AT_ONCE == 0:
            yield batch
            batch = []


async def _store(url: str, directory: Path, taken: Sequence[Taken], bound: float) -> None:
    clock = SystemClock()
    begin = (clock.read().wall - timedelta(days=DAYS, hours=1)).replace(minute=0, second=0, microsecond=0)
    entities = {reading.entity for one in taken for found in one.families.values() for reading in found}
    async with reaching(url, directory, clock) as database, database.acquire() as connection:
        rollups = Rollups(database, clock, Keep.of(DatabaseSettings()))
        await rollups.make()
        known = Catalogue()
        await _insert(connection, known, rows.of_entities(entities, "testhost", begin))
        before = await _sizes(connection, database.edition)
        for batch in _rows(taken, begin):
            await _insert(connection, known, batch)
        outcome = await rollups.roll(a_run())
        assert outcome.ok, outcome.detail
        assert database.edition is not None
        if database.edition.name == editions.TIMESCALE:
            await run_policies(connection, timescale.REFRESH)
            await connection.execute(COMPRESS)
        after = await _sizes(connection, database.edition)
    samples = DAYS * timedelta(days=1) / INTERVAL
    grown = {name: (after[name] - before.get(name, 0)) / samples for name in after}
    _print(grown, bound)


async def _insert(connection: Connection, known: Catalogue, put: Sequence[Row]) -> None:
    """Do what the shipper does with rows that are all new."""
    fit, rejected = await known.sort(connection, put)
    assert not rejected, rejected
    arguments = [known.part(shape).arguments(row.values for row in found) for shape, found in fit.items()]
    await connection.fetchrow(known.insert(fit), *chain.from_iterable(arguments))


async def _sizes(connection: Connection, edition: editions.Edition | None) -> dict[str, int]:
    assert edition is not None
    return {table.name: table.bytes for table in (await info.read(connection, edition)).tables}


def _print(grown: dict[str, float], bound: float) -> None:
    facts = {name: size for name, size in grown.items() if not name.endswith("_rollup")}
    largest = sorted(facts, key=lambda name: facts[name], reverse=True)[:6]
    process.figure(
        "a sample", sum(facts.values()), "B", bound=bound, note=", ".join(f"{n} {facts[n]:.0f}" for n in largest)
    )
    for level in LEVELS:
        size = sum(size for name, size in grown.items() if name.endswith(f"_{level.name}_rollup"))
        process.figure(f"what it comes to, {level.name}", size, "B")
    process.figure("stored by a sample, in all", sum(grown.values()), "B", bound=bound)
