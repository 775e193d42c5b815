"""An older dump is put back into PostgreSQL under a running agent: what is sampled after it is seen."""

from __future__ import annotations

import asyncio
from pathlib import Path

from homelab_agent.metrics import service
from homelab_agent.metrics.settings import MetricsSettings
from tests.clock import until
from tests.founded import foundation
from tests.neighbours.postgres import Postgres


async def test_samples_after_an_older_dump_are_in_the_views(postgres: Postgres, tmp_path: Path) -> None:
    async with foundation(tmp_path, postgres.url) as base:
        database = base.database
        capability = service.build(MetricsSettings(interval=1, slow_interval=1), base)
        running = asyncio.ensure_future(capability.tasks[0].run())
        await database.wait_until_up()

        async def seen() -> int:
            """Return how many samples the view has, which asks for their entity."""
            [row] = await database.fetch("SELECT count(*) FROM cpu WHERE label = 'total'")
            return int(row[0])

        async def until_seen(more: int) -> None:
            async with asyncio.timeout(30):
                while await seen() < more:  # noqa: ASYNC110 - what another process holds
                    await asyncio.sleep(0.1)

        await until_seen(2)
        await database.fetch("TRUNCATE entity, cpu_sample")  # as a dump has it that is older than the agent's start
        await asyncio.to_thread(postgres.stop)
        await until(lambda: database.round_trip_seconds is None, "it is noticed")
        taken = samples(capability.exposition() if capability.exposition else b"")
        await until(
            lambda: capability.exposition and samples(capability.exposition()) > taken + 1, "a sample meanwhile"
        )
        await asyncio.to_thread(postgres.start)
        await database.wait_until_up()
        await until_seen(1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def samples(exposition: bytes) -> int:
    """Return how many samples were taken."""
    [line] = [line for line in exposition.splitlines() if line.startswith(b"homelab_agent_samples_total ")]
    return int(line.split()[1])
