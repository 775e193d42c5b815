"""What the gate keeps in a real state.db, between a start of the agent and its end."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from homelab_agent.core.clock import Clock
from homelab_agent.core.door import Visits
from homelab_agent.core.spool import Row, Spool
from homelab_agent.core.state import State, StateUnavailable, Work
from homelab_agent.gate.intent import Intent
from homelab_agent.gate.ledger import Ledger
from tests.website import SCHEMAS

NOBODY, SOME = Visits(0, 0, 0), Visits(12, 3, 4096)


@dataclass(frozen=True, slots=True)
class Life:
    state: State
    spool: Spool
    intent: Intent
    ledger: Ledger
    registry: CollectorRegistry

    async def rows(self, table: str = "gate_exposure") -> list[Row]:
        """Return the rows of a table that are on their way to PostgreSQL."""
        batch = await self.spool.take(100_000)
        if batch is None:
            return []
        await self.spool.failed(batch)
        return [row for row in batch.rows if row.table == table]

    def counted(self) -> float:
        """Return the seconds of exposure in `GET /metrics`."""
        return self.registry.get_sample_value("homelab_agent_gate_exposure_seconds_total") or 0.0


@asynccontextmanager
async def living(directory: Path, clock: Clock) -> AsyncIterator[Life]:
    state = await State.open(directory, SCHEMAS, clock=clock)
    spool = Spool(state, clock, host="attic", max_bytes=1 << 24, max_age=3600.0)
    registry = CollectorRegistry()
    ledger = Ledger(state, spool, clock, host="attic", registry=registry)
    yield Life(state, spool, Intent(state, spool, clock, host="attic"), ledger, registry)
    await spool.close()
    await state.close()


async def ruin(state: State) -> None:
    """Damage state.db while it is in use, until SQLite has met the damage: the next write begins a new one."""

    def everything(connection: sqlite3.Connection) -> None:
        connection.execute("SELECT * FROM gate_hold, gate_exposure").fetchall()

    await state.read(everything)
    await asyncio.to_thread(_scribble, state.directory / "state.db")
    with pytest.raises(StateUnavailable) as caught:
        await state.read(everything)
    assert "sets the damaged file aside" in caught.value.repair


class Disk:
    """A disk that refuses writes for a while, lets them wait, or takes some and never says so."""

    def __init__(self, life: Life) -> None:
        self.refuses = False
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.swallows: object = None
        """The outcome of a write that is done and never told, if any."""
        self.swallowed = 0
        self._write = life.state.write
        self._directory = life.state.directory
        life.state.write = self.write  # type: ignore[method-assign]

    async def write(self, work: Work[Any]) -> Any:
        await self.goes_on.wait()
        if self.refuses:
            raise StateUnavailable(directory=self._directory, done="written", repair="", cause="disk full")
        done = await self._write(work)
        if done is not None and done == self.swallows:
            self.swallowed += 1
            await asyncio.Event().wait()
        return done


def _scribble(database: Path) -> None:
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    size = database.stat().st_size
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
