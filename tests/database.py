"""A database for what needs none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from homelab_agent.core.errors import NeighbourUnreachable


class NoDatabase:
    """PostgreSQL while it is down."""

    round_trip_seconds: float | None = None

    async def wait_until_up(self) -> None:
        """Wait for ever."""
        await asyncio.Event().wait()

    async def fetch(self, query: str, *args: object) -> Sequence[Any]:  # noqa: ARG002
        """Refuse."""
        raise NeighbourUnreachable(neighbour="PostgreSQL", repair="start it")

    def acquire(self) -> AbstractAsyncContextManager[Any]:
        """Refuse."""
        raise NeighbourUnreachable(neighbour="PostgreSQL", repair="start it")

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Refuse."""
        raise NeighbourUnreachable(neighbour="PostgreSQL", repair="start it")
