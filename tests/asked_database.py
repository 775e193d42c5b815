"""A database that is asked all the time, for who breaks something meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

from homelab_agent.core.errors import NeighbourUnreachable
from homelab_agent.database.database import Database
from tests.clock import until


def without_password(url: str) -> str:
    """Return the address of a server without the password in it."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}@{host}"))


class Client:
    """Asks PostgreSQL without a pause, as eight users at once, and counts."""

    def __init__(self, database: Database) -> None:
        self.answered = 0
        self.failed: list[BaseException] = []
        self._database = database

    async def goes_on(self, before: int, more: int) -> None:
        """Wait until so many more were answered."""
        await until(lambda: self.answered > before + more, "it is answered as before")

    async def ask(self) -> None:
        """Ask until cancelled."""
        while True:
            try:
                await self._database.fetch("SELECT pg_sleep(0.005)")
                self.answered += 1
            except NeighbourUnreachable as error:
                self.failed.append(error)
                await asyncio.sleep(0.01)


@asynccontextmanager
async def asked(database: Database) -> AsyncIterator[Client]:
    """Give the client that asks until the context ends."""
    client = Client(database)
    tasks = [asyncio.create_task(client.ask()) for _ in range(8)]
    try:
        yield client
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
