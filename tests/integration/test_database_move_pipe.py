"""What copies rows from one server to another: whichever of them goes, and whenever, it is noticed at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import pytest

from homelab_agent.database.moving import pipe
from homelab_agent.database.pool import CANNOT_ASK
from tests.fixtures.soak import Soak
from tests.neighbours.postgres import Postgres

ENDLESS = "SELECT number, repeat('x', 200) FROM generate_series(1, 1000000000) AS number"
HANGS_SECONDS = 30.0


async def _pour(source: Postgres, target: Postgres, happens: Callable[[], object], after: float) -> None:
    """Copy without an end into a table; after so many seconds something happens."""
    async with asyncio.timeout(HANGS_SECONDS):
        ours = await asyncpg.connect(source.url)
        theirs = await asyncpg.connect(target.url)
        try:
            await theirs.execute("CREATE TEMPORARY TABLE copied (number integer, word text)")
            loop = asyncio.get_running_loop()
            loop.call_later(after, lambda: loop.run_in_executor(None, happens))
            await pipe.pour(ours, ENDLESS, (), theirs, "pg_temp.copied", ["number", "word"])
        finally:
            ours.terminate()
            theirs.terminate()


@pytest.mark.parametrize("which", ["source", "target"])
def test_a_server_that_dies_while_rows_are_copied_is_noticed(
    postgres: Postgres, postgres_debian: Postgres, soak: Soak, which: str
) -> None:
    dying = {"source": postgres, "target": postgres_debian}[which]
    for number in soak.rounds(8):
        is_killed = number % 4 == 0
        happens = dying.kill if is_killed else dying.disconnect
        with pytest.raises(CANNOT_ASK):
            asyncio.run(_pour(postgres, postgres_debian, happens, soak.dice.uniform(0.05, 0.5)))
        if is_killed:
            dying.start()


def test_a_copy_that_is_cancelled_ends_at_once(postgres: Postgres, postgres_debian: Postgres, soak: Soak) -> None:
    async def cancelled(after: float) -> None:
        copying = asyncio.create_task(_pour(postgres, postgres_debian, lambda: None, after))
        await asyncio.sleep(after + 0.2)
        copying.cancel()
        async with asyncio.timeout(HANGS_SECONDS / 2):
            await asyncio.wait({copying})
        assert copying.cancelled()

    for _ in soak.rounds(8):
        asyncio.run(cancelled(soak.dice.uniform(0, 0.3)))
