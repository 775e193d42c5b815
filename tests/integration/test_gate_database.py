"""Openings arrive in PostgreSQL, each once, on every edition."""

from __future__ import annotations

import asyncio
from pathlib import Path

from homelab_agent.core.clock import SystemClock
from homelab_agent.database.database import Database
from homelab_agent.database.settings import DatabaseSettings
from homelab_agent.database.shipper import Shipper
from tests.clock import until
from tests.gate_life import NOBODY, SOME, living
from tests.neighbours.postgres import Postgres


async def test_openings_arrive(any_postgres: Postgres, tmp_path: Path) -> None:
    clock = SystemClock()
    async with living(tmp_path / "state", clock) as life:
        first = await life.ledger.begin("ready at 3 looks in a row")
        await life.ledger.end("not ready: a\0b", SOME, checks=["state", "web"])
        second = await life.ledger.begin("ready")
        await life.ledger.end("held by ann", NOBODY)
        await life.ledger.begin("it lasts")

        database = Database(DatabaseSettings(url=any_postgres.url), directory=tmp_path, clock=clock)
        tasks = [
            asyncio.ensure_future(one) for one in (database.run(), Shipper(database, life.spool, clock, 0.1).run())
        ]
        await asyncio.wait_for(database.wait_until_up(), 60)
        await until(lambda: not life.spool.status().rows_disk, "all rows have arrived")
        rows = await database.fetch("SELECT * FROM gate_exposure ORDER BY opened_at")
        assert [(str(row["id"]), row["opened_at"], row["host"]) for row in rows] == [
            (first.id, first.opened_at, "attic"),
            (second.id, second.opened_at, "attic"),
        ]
        assert (rows[0]["closed_why"], rows[0]["checks"]) == ("not ready: ab", "state, web")
        assert (rows[0]["requests"], rows[0]["sources"], rows[0]["sent_bytes"]) == (12, 3, 4096)
        [known] = [one for one in await life.ledger.newest(9) if one.id == first.id]
        assert (rows[0]["closed_at"], rows[0]["seconds"]) == (known.closed_at, known.seconds)
        assert life.spool.status().rejected == 0
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
