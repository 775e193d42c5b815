"""Rows on their way to a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from homelab_agent.core.clock import Clock
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.core.spool import Spool
from homelab_agent.database.database import Database
from homelab_agent.database.settings import DatabaseSettings
from homelab_agent.database.shipper import Shipper

UP_SECONDS = 60.0


@asynccontextmanager
async def reaching(url: str, directory: Path, clock: Clock) -> AsyncIterator[Database]:
    """Give the database once its schema is as it should be."""
    database = Database(DatabaseSettings(url=url), Secrets(Redactor()), directory=directory, clock=clock)
    task = asyncio.create_task(database.run())
    try:
        await asyncio.wait_for(database.wait_until_up(), UP_SECONDS)
        yield database
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def shipping(url: str, directory: Path, spool: Spool, clock: Clock) -> AsyncIterator[Database]:
    """Give the same, and ship what is in the spool until the context ends."""
    async with reaching(url, directory, clock) as database:
        task = asyncio.create_task(Shipper(database, spool, clock, 0.1).run())
        try:
            yield database
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
