"""A thread of one's own for what must not run on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Worker:
    """Runs one thing after the other in a thread called `name`, which begins with the first."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._executor = self._new()

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Return what `function` returns; raises what it raises, RuntimeError after `close`."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)

    async def rest(self) -> None:
        """Return when the thread has done what it was given and has ended; what is run from now on begins another."""
        executor, self._executor = self._executor, self._new()
        await asyncio.to_thread(executor.shutdown)

    def close(self) -> None:
        """Let the thread end when it has done what it was given."""
        self._executor.shutdown(wait=False)

    def _new(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix=self._name)
