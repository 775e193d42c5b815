"""A feed: every subscriber sees each thing published while it listens, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Feed(Generic[T]):
    """Publishes to bounded queues; a subscriber that does not keep up loses the oldest, never delays the rest."""

    def __init__(self, *, backlog: int = 256) -> None:
        self._backlog = backlog
        self._queues: set[asyncio.Queue[T]] = set()

    def publish(self, item: T) -> None:
        """Give `item` to everyone who listens now."""
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(item)

    @contextmanager
    def subscribe(self) -> Iterator[asyncio.Queue[T]]:
        """Listen until the context ends; read with `await queue.get()`."""
        queue: asyncio.Queue[T] = asyncio.Queue(self._backlog)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)
