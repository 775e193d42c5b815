"""The lease of a source: of all agents that share a PostgreSQL one has it, on the connection with which it works.

It is an advisory lock of the session
(https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS): when its holder dies the server lets it
go, and a holder that has lost it has lost the connection, and so cannot write. A host that is lost says no farewell:
the server asks after silent connections and ends those that do not answer (`database/address.py`).
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

_RELEASE_SECONDS = 5.0
"""Who is in no hurry to say that it was let go is not waited for: the connection ends, and with it the lease."""


class TakenElsewhere(AgentError):
    """Another agent is at work on the reading source {source}."""

    repair = "homelab-agent reading status"
    exit_code = Exit.BUSY


class StillOurs(AgentError):
    """Either this host is at work on the reading source {source}, or PostgreSQL has not noticed that it is cut off."""

    repair = "homelab-agent jobs list"
    exit_code = Exit.BUSY


@asynccontextmanager
async def held(connection: Any, *sources: str, host: str) -> AsyncIterator[None]:
    """Hold the lease of a source, or of several, let go all at once.

    Raises `TakenElsewhere`, and `StillOurs` where a session of this host has one of them.

    The session says meanwhile of which host it is. Of one host one agent is at work, and of its runs one: for a run
    another session that has the lease is one that was lost, or what somebody decides about documents at the moment.
    """
    try:
        await connection.execute(statements.CALL_SESSION, f"homelab-agent reading {host}")
        for source in sources:
            await _take(connection, source)
        yield
    finally:
        try:
            await connection.execute(statements.RELEASE, timeout=_RELEASE_SECONDS)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            _end(connection)
        except BaseException:  # a cancel: the connection must not go back to the others with the lock
            _end(connection)
            raise


async def _take(connection: Any, source: str) -> None:
    number = int.from_bytes(hashlib.blake2b(source.encode(), digest_size=4).digest(), "big", signed=True)
    while not await connection.fetchval(statements.LEASE, _CLASS, number):
        is_ours = await connection.fetchval(statements.LEASE_IS_OURS, _CLASS, number)
        if is_ours is not None:  # else it was let go just now
            raise (StillOurs if is_ours else TakenElsewhere)(source=source)


def _end(connection: Any) -> None:
    """End a connection that may hold the lease still; one that is gone holds nothing."""
    with suppress(asyncpg.InterfaceError, OSError):
        connection.terminate()
