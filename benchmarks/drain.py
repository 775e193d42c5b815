"""A day of this host's samples waits in the spool; how long, and at what CPU cost, until PostgreSQL has them in order.

The peer, on the same server: PostgreSQL's own COPY of these rows into files and back into like tables.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks import process
from homelab_agent.core.clock import Drift, SystemClock
from homelab_agent.core.spool import Spool
from homelab_agent.core.state import State
from homelab_agent.metrics import rows
from homelab_agent.metrics.collection import Collection, Taken
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.sample import Quality, Sample
from homelab_agent.metrics.settings import MetricsSettings
from homelab_agent.metrics.ticker import Tick
from tests import agent as agents
from tests.neighbours import postgres, postgres_kinds
from tests.waiting import until

SAMPLES = 8640
ORDERED = """
SELECT bool_and(ordered) FROM (
    SELECT coalesce(time >= lag(time) OVER (PARTITION BY tableoid ORDER BY ctid), true) AS ordered
    FROM homelab.memory_sample
) AS arrived
"""
COPIED = r"""
DO $$
DECLARE fact record; file text := current_setting('data_directory') || '/peer.copy';
BEGIN
    FOR fact IN SELECT relname FROM pg_class WHERE relnamespace = 'homelab'::regnamespace AND relkind = 'p' LOOP
        EXECUTE format('CREATE TABLE public.peer_%1$s (LIKE homelab.%1$I INCLUDING INDEXES)', fact.relname);
        EXECUTE format('COPY (SELECT * FROM homelab.%1$I) TO %2$L', fact.relname, file);
        EXECUTE format('COPY public.peer_%1$s FROM %2$L', fact.relname, file);
    END LOOP;
END $$
"""
PACKAGE = Path(rows.__file__).parents[1]


def run(*, minutes: float) -> None:
    """Fill a spool, start an agent on it beside PostgreSQL, wait until it is empty."""
    del minutes
    with (
        postgres.running(postgres_kinds.WHEEL) as server,
        tempfile.TemporaryDirectory(prefix="homelab-agent-bench-") as name,
    ):
        Path(name).chmod(0o755)
        with agents.running(Path(name) / "agent") as ours:
            ours.write(database=server.url, interval=3600)
            idle = _start_and_count(ours, server, 0)
            ours.stop()
            server.psql("TRUNCATE homelab.memory_sample")
            put = asyncio.run(_fill(ours.state))
            seconds, cpu = _start_and_count(ours, server, SAMPLES)
            process.figure(f"{SAMPLES} samples, {put} rows: drained", seconds, "s", bound=10)
            process.figure("CPU of the agent for it", cpu - idle[1], "s", bound=3)
            print("arrived in order:", server.psql(ORDERED))
            began = time.monotonic()
            server.psql(COPIED)
            process.figure("peer: PostgreSQL's COPY of the same rows", time.monotonic() - began, "s")


def _start_and_count(ours: agents.Agent, server: postgres.Postgres, wanted: int) -> tuple[float, float]:
    ours.start()
    until(lambda: ours.finding("database.schema")["state"] == "ok", "PostgreSQL is reached")
    began = time.monotonic()
    count = "SELECT count(*) FROM homelab.memory_sample"
    until(lambda: int(server.psql(count)) >= wanted, "all samples have arrived", seconds=120)
    return time.monotonic() - began, process.cpu_seconds(ours.pid)


async def _fill(directory: Path) -> int:
    clock = SystemClock()
    state = await State.open(directory, sorted(PACKAGE.glob("*/schema/state.sql")), clock=clock)
    spool = Spool(state, clock, host="testhost", max_bytes=2**27, max_age=7 * 86400)
    taken = await _sample(clock)
    first = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1, minutes=10)
    put = 0
    for number in range(SAMPLES):
        at = first + timedelta(seconds=10 * number)
        quality = Quality(
            scheduled_at=at, started_at=at, late_ms=0.1, total_ms=1.0, step=0.0, asleep=0.0, skipped=0, moved_ms=0,
            spooled=True, clock_synchronised=True, collectors=taken.collectors,
        )  # fmt: skip
        parcel = rows.of_sample(Sample(at, taken.families, quality), "testhost")
        await spool.put(parcel)
        put += len(parcel)
    await spool.close()
    await state.close()
    return put


async def _sample(clock: SystemClock) -> Taken:
    collection = Collection(Host("testhost"), MetricsSettings())
    now = clock.read()
    await collection.take(Tick(now.wall, now, 0, Drift(0.0, 0.0)))
    await clock.sleep(1)
    now = clock.read()
    return await collection.take(Tick(now.wall + timedelta(minutes=1), now, 0, Drift(0.0, 0.0)))
