"""What `sync_history` says of runs that could not say themselves how they ended.

Who is cancelled hard, is killed, or has lost PostgreSQL for good leaves its row `running`. How the run ended is in
state.db, and from there it is made up for: by the next run of the source, and by an agent whose PostgreSQL is back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias

import asyncpg

from homelab_agent.core.clock import Clock, about
from homelab_agent.core.errors import AgentError
from homelab_agent.core.foundation import Database
from homelab_agent.core.jobs import RunRecord
from homelab_agent.core.state import StateUnavailable
from homelab_agent.reading import statements

_EVERY_SECONDS = 600.0

Recorded: TypeAlias = Callable[[str], Awaitable[RunRecord | None]]


class History:
    """Settles rows that were left `running`; `recorded` gives what this `host` knows of a run, as `Jobs.get`."""

    def __init__(self, database: Database, clock: Clock, recorded: Recorded, *, host: str) -> None:
        self._database = database
        self._clock = clock
        self._recorded = recorded
        self._host = host

    async def run(self) -> None:
        """Settle those of this host now and then, until cancelled."""
        while True:
            await self._database.wait_until_up()
            with suppress(AgentError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                async with self._database.acquire() as connection:
                    await self._settle(connection, await connection.fetch(statements.LEFT_RUNNING, "", self._host))
            await self._clock.sleep(about(self._clock.read(), _EVERY_SECONDS))

    async def settle(self, connection: Any, origin: str, *, run: str) -> None:
        """Settle those of a source, of whatever host, but this `run`: who holds its lease is the only one at work."""
        rows = await connection.fetch(statements.LEFT_RUNNING, origin, "")
        await self._settle(connection, [row for row in rows if str(row["run"]) != run])

    async def _settle(self, connection: Any, rows: Any) -> None:
        for row in rows:
            try:
                record = await self._recorded(str(row["run"])) if row["host"] == self._host else None
            except StateUnavailable:
                continue  # it may be said later
            if record is not None and not record.ended:
                continue
            status, said = _ending(record, has_taken=row["has_taken"])
            at = None if record is None else record.ended_at
            await connection.execute(
                statements.SETTLE, row["run"], row["origin"], status, at or self._clock.read().wall, said
            )


def _ending(record: RunRecord | None, *, has_taken: bool) -> tuple[str, str]:
    """Return status and error of a run, by what is recorded of it; nothing is of another host's."""
    if record is None or record.state == "interrupted":
        return "interrupted", "its agent ended while it ran"
    said = record.state.replace("_", " ")
    return "partial" if has_taken else "failed", f"{said}: {record.detail}" if record.detail else said
