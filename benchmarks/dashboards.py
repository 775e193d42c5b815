"""How long PostgreSQL takes for what each panel of Grafana's dashboards asks, over 1 hour, 24 hours and 90 days.

Two hosts with 54 things each: the last day sampled every 10 seconds, the 90 days before it once an hour, so that all
rollups have as many rows as in a home. Both editions; the median of three, as the role that Grafana has.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from homelab_agent.database.rollups import timescale
from tests.grafana_macros import Range
from tests.grafana_seed import HOSTS, WENT_WRONG, Density
from tests.integration.test_grafana_queries import DASHBOARDS, RANGES, as_reader, chosen, questions, seeded
from tests.neighbours import postgres, postgres_kinds
from tests.rolled import run_policies

DENSITY = Density(apart=3600, lately=86400, then_apart=10)
TIMES = 3
SHOWN = 8


def run(*, minutes: float) -> None:
    """Seed each edition, ask all, print."""
    del minutes
    for kind in (postgres_kinds.WHEEL, postgres_kinds.TIMESCALE):
        with (
            postgres.running(kind) as server,
            tempfile.TemporaryDirectory(prefix="homelab-agent-bench-") as directory,
        ):
            found = asyncio.run(_measure(server, kind, Path(directory)))
        print(f"{kind.name}: {len(HOSTS)} hosts; milliseconds for a question: median, 95 of 100, most")
        for name in RANGES:
            taken = sorted(milliseconds for (_, at), milliseconds in found.items() if at == name)
            print(f"  {name:>5}: {statistics.median(taken):6.1f} {taken[len(taken) * 95 // 100]:6.1f} {taken[-1]:6.1f}")
        slowest = sorted(found.items(), key=lambda item: -item[1])[:SHOWN]
        for (what, name), milliseconds in slowest:
            print(f"  {milliseconds:7.1f} {name:>5} {what}")


async def _measure(
    server: postgres.Postgres, kind: postgres_kinds.Kind, directory: Path
) -> Mapping[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    async with seeded(server, directory, DENSITY) as connection:
        if kind is postgres_kinds.TIMESCALE:  # whose workers do not run by themselves here
            await run_policies(connection, timescale.REFRESH)
        await connection.execute(WENT_WRONG)
        now: datetime = await connection.fetchval("SELECT now()")
        async with as_reader(connection):
            for dashboard in DASHBOARDS:
                variables = await chosen(connection, dashboard, now)
                for name, length in RANGES.items():
                    asked = Range(now.astimezone(UTC), length)
                    for what, _, query in questions(dashboard, asked, variables):
                        found[f"{dashboard['title']}: {what}", name] = await _median(connection, query)
    return found


async def _median(connection: asyncpg.Connection, query: str) -> float:
    taken = []
    for _ in range(TIMES):
        text = await connection.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query}")
        plan = json.loads(text)[0]
        taken.append(float(plan["Planning Time"] + plan["Execution Time"]))
    return statistics.median(taken)
