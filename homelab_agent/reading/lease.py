"""The lease of a source: of all agents that share a PostgreSQL one has it, on the connection with which it works.

It is an advisory lock of the session
(https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS): when its holder dies the server lets it
go, and a holder that has lost it has lost the connection, and so cannot write.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.reading import statements

_CLASS = 0x72656164
"""The first half of the lock's number: "read"."""


class TakenElsewhere(AgentError):
    """Another agent is at work on the reading source {source}."""

    repair = "homelab-agent reading status"
    exit_code = Exit.BUSY


@asynccontextmanager
async def held(connection: Any, source: str) -> AsyncIterator[None]:
    """Hold the lease of a source; raises `TakenElsewhere`."""
    number = int.from_bytes(hashlib.blake2b(source.encode(), digest_size=4).digest(), "big", signed=True)
    if not await connection.fetchval(statements.LEASE, _CLASS, number):
        raise TakenElsewhere(source=source)
    try:
        yield
    finally:
        try:
            await connection.execute(statements.RELEASE, _CLASS, number)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            _end(connection)
        except BaseException:  # a cancel: the connection must not go back to the others with the lock
            _end(connection)
            raise


def _end(connection: Any) -> None:
    """End a connection that may hold the lease still; one that is gone holds nothing."""
    with suppress(asyncpg.InterfaceError, OSError):
        connection.terminate()
