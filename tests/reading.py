"""A reading source, a PostgreSQL, and the loop between them, in the test's own process."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.jobs import Run, RunRecord
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.core.uuid7 import uuid7
from homelab_agent.database.database import Database
from homelab_agent.database.settings import DatabaseSettings
from homelab_agent.reading.advance import Advance
from homelab_agent.reading.decided import Decided
from homelab_agent.reading.history import History
from homelab_agent.reading.mongodb import MongoSource
from homelab_agent.reading.order import Order
from homelab_agent.reading.settings import ReadingSource
from homelab_agent.reading.sync import Ended, Sync
from homelab_agent.reading.verify import Verify
from tests.neighbours.mongodb import MongoDB
from tests.neighbours.op_msg import StandIn

DRIVER_LEAVES_A_SOCKET = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
)
"""A driver that is closed while it connects leaves that socket to the collector of garbage (pymongo 4.20)."""

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
UP_SECONDS = 60.0


def articles(count: int, *, first: int = 0, at: datetime = NOON) -> Iterator[dict[str, Any]]:
    """Give documents as the reading list has them; their ids are of `at` and after."""
    for number in range(first, first + count):
        yield {
            "_id": object_id(at + timedelta(seconds=number // 100), number),
            "event_timestamp": at + timedelta(seconds=number),
            "source": "pocket",
            "event_type": "read",
            "payload": {"title": f"Article {number}", "url": f"https://example.org/{number}", "reading_seconds": 60},
            "meta": {"device": "phone"},
            "status": "ingested",
        }


def object_id(at: datetime, number: int) -> ObjectId:
    """Return the id of a document that was made then."""
    return ObjectId(f"{int(at.timestamp()):08x}{number:016x}")


def section(mongodb: MongoDB, password_file: Path, *, more: str = "", url: str = "") -> str:
    """Return the configuration's sections for an agent."""
    return (
        "[reading]\nspread = 0.0\n\n[[reading.source]]\n"
        f'name = "atlas"\nurl = "{url or mongodb.url}"\npassword = "file:{password_file}"\n'
        f'database = "{mongodb.database}"\n{more}\n'
    )


def unencrypted(url: str) -> str:
    """Return an address of TCP for which asyncpg looks for no certificates: it would do so on the loop."""
    return f"{url}?sslmode=disable"


def write_password(path: Path, password: str) -> Path:
    """Put a password where an agent reads it."""
    path.touch(mode=0o600)
    path.write_text(password)
    return path


@dataclass(slots=True)
class Library:
    """One source and the sync of it."""

    database: Database
    source: Any
    settings: ReadingSource
    patience: float = 60.0
    host: str = "testhost"
    lines: list[str] = field(default_factory=list)
    recorded: dict[str, RunRecord] = field(default_factory=dict)

    def new_run(self, options: frozenset[str] = frozenset()) -> Run:
        """Return a run that nobody has begun."""
        return Run(
            uuid7(),
            "reading.sync",
            "command",
            on_progress=lambda _: None,
            on_line=self.lines.append,
            on_use=lambda _: nullcontext(),
            options=options,
        )

    async def sync(self, order: Order | None = None, *, run: Run | None = None) -> Ended:
        """Run to its end."""
        clock, run = SystemClock(), run or self.new_run()
        history = History(self.database, clock, self.recall, host=self.host)
        sync = Sync(self.source, self.database, clock, history, host=self.host, patience=self.patience)
        return await sync.run(run, order or Order(), Advance(run, clock))

    async def recall(self, run: str) -> RunRecord | None:
        """Return what is known of a run in its job's history."""
        return self.recorded.get(run)

    async def verify(self, window: str) -> tuple[bool, Sequence[str]]:
        """Return whether a window holds, and the lines that name what differs."""
        self.lines.clear()
        verify = Verify({self.settings.name: self.source}, self.database, host=self.host)
        outcome = await verify.run(self.new_run(frozenset({f"window={window}"})))
        return outcome.ok, self.lines

    def decided(self) -> Decided:
        """Return what carries out a decision about rejected documents."""
        return Decided({self.settings.name: self.source}, self.database, host=self.host)

    async def rows(self, query: str, *args: object) -> list[dict[str, Any]]:
        """Ask PostgreSQL."""
        return [dict(row) for row in await self.database.fetch(query, *args)]

    async def count(self, table: str) -> int:
        """Return how many rows a table has."""
        [row] = await self.rows(f"SELECT count(*) AS count FROM {table}")
        return int(row["count"])


@asynccontextmanager
async def library(
    postgres_url: str, mongodb: MongoDB | StandIn, directory: Path, *, batch: int = 500, **more: Any
) -> AsyncIterator[Library]:
    """Give a source that reads from `mongodb`, with the schema in place; `more` are keys of the source's section."""
    secrets = Secrets(Redactor())
    if isinstance(mongodb, MongoDB):
        password = write_password(directory / "mongodb-password", mongodb.password)
        more = {"password": f"file:{password}", "database": mongodb.database, **more}
    settings = ReadingSource(**{"name": "atlas", "url": mongodb.url, **more})
    source = MongoSource(settings, secrets, batch=batch, max_bytes=1024 * 1024)
    async with reached(postgres_url, directory, source, settings) as found:
        yield found


@asynccontextmanager
async def reached(postgres_url: str, directory: Path, source: Any, settings: ReadingSource) -> AsyncIterator[Library]:
    """Give any source, with the schema in place."""
    secrets = Secrets(Redactor())
    database = Database(DatabaseSettings(url=postgres_url), secrets, directory=directory, clock=SystemClock())
    task = asyncio.create_task(database.run())
    try:
        await asyncio.wait_for(database.wait_until_up(), UP_SECONDS)
        yield Library(database, source, settings)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        gc.collect()  # what the driver leaves is this test's


async def beside(work: Any, *args: Any) -> Any:
    """Do what blocks, beside the loop."""
    return await asyncio.to_thread(work, *args)
