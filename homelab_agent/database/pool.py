"""Connections to PostgreSQL: pooled for the agent, single for a command."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, TypeAlias, Union

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from homelab_agent.core.errors import NeighbourUnreachable, describe
from homelab_agent.database.address import Address, AddressFaulty

Connection: TypeAlias = Union["asyncpg.Connection[Any]", "PoolConnectionProxy[Any]"]
Pool: TypeAlias = "asyncpg.Pool[Any]"

SIZE_MAX = 6
IDLE_SECONDS = 120.0
CONNECT_SECONDS = 10.0
QUERY_SECONDS = 60.0

_KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
"""As the server is asked to (`address.py`): who is silent for so many seconds is asked whether he lives."""


class _Kept(asyncpg.Connection):
    """A connection whose other end is asked after while it says nothing (tcp(7))."""

    def __init__(self, protocol: Any, transport: asyncio.Transport, *more: Any, **named: Any) -> None:
        super().__init__(protocol, transport, *more, **named)
        wire: socket.socket | None = transport.get_extra_info("socket")
        if wire is not None and wire.family != socket.AF_UNIX:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                wire.setsockopt(socket.IPPROTO_TCP, option, value)


_SESSION: Mapping[str, Any] = MappingProxyType(
    {
        "command_timeout": QUERY_SECONDS,
        "max_cacheable_statement_size": 0,  # no bound: the shipper's one statement is long
    }
)

CANNOT_ASK = (
    OSError,  # a refused connection and a late answer (TimeoutError) among them
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server has said farewell, and its connection is not closed yet
)
"""What keeps PostgreSQL from being asked anything, whatever the question."""


def unreachable(cause: BaseException | str, repair: str) -> NeighbourUnreachable:
    """Return the error that says that PostgreSQL cannot be asked."""
    text = cause if isinstance(cause, str) else describe(cause)
    return NeighbourUnreachable(neighbour="PostgreSQL", cause=text, repair=repair)


async def open_pool(where: Address) -> Pool:
    """Return a pool that connects when it is asked for a connection."""
    pool: Pool = await asyncpg.create_pool(
        min_size=0,
        max_size=SIZE_MAX,
        max_inactive_connection_lifetime=IDLE_SECONDS,
        reset=_keep,
        connection_class=_Kept,
        **_SESSION,
        **where.options,
    )
    return pool


async def change_over(pool: Pool, where: Address) -> None:
    """Have `pool` connect to `where` from now on; a connection in use is replaced once it comes back."""
    pool.set_connect_args(**_SESSION, **where.options)
    await pool.expire_connections()


async def _keep(_connection: Connection) -> None:
    """Leave a session as it is when it goes back to the pool: nobody here changes one beyond a transaction."""


@asynccontextmanager
async def single(where: Address, *, repair: str) -> AsyncIterator[Connection]:
    """Hold one connection of its own; raises `NeighbourUnreachable`, or `AddressFaulty`, without any password."""
    try:
        connection: Connection = await asyncpg.connect(
            timeout=CONNECT_SECONDS, command_timeout=QUERY_SECONDS, **where.options
        )
    except asyncpg.ClientConfigurationError:
        raise AddressFaulty from None  # its text repeats the URL
    except CANNOT_ASK as error:
        raise unreachable(error, repair) from error
    try:
        yield connection
    finally:
        await connection.close()
