"""How fast ninety days of a host's CPU are asked, on plain PostgreSQL and on TimescaleDB."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks import process
from homelab_agent.core.clock import SystemClock
from homelab_agent.database import partitions
from homelab_agent.database.database import Database
from homelab_agent.database.pool import Connection
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.level import HOUR
from homelab_agent.database.rollups.upkeep import Rollups
from homelab_agent.database.settings import DatabaseSettings
from tests.filled import tables
from tests.neighbours import postgres, postgres_kinds
from tests.rolled import a_run
from tests.shipping import reaching

ASKED = 41
_DAYS = 90
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
    """Store ninety days of one family in each edition, and ask both in turn."""
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
    for server in servers.values():
        async with reaching(server.url, directory, clock) as database, database.acquire() as connection:
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
