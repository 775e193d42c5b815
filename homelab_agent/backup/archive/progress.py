"""Work in a thread that tells how far it is, and that ends soon when it is not wanted any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

from homelab_agent.backup.point import Said
from homelab_agent.core import process

P = ParamSpec("P")
T = TypeVar("T")

_STEP_BYTES = 16 * 1024 * 1024


class NotWanted(Exception):
    """Who waited for the work was cancelled."""


class Progress:
    """What work in a thread calls with how many bytes are done; `say` is told now and then, on the loop."""

    def __init__(self, say: Said, total: int | None, what: str) -> None:
        self._say = say
        self._total = total
        self._what = what
        self._loop = asyncio.get_running_loop()
        self._told = 0
        self._is_wanted = True

    def __call__(self, done: int) -> None:
        """Raise `NotWanted` where the work is to end."""
        if not self._is_wanted:
            raise NotWanted
        if done - self._told >= _STEP_BYTES:
            self._told = done
            self._loop.call_soon_threadsafe(self._say, done, self._total, self._what)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `work` does in a thread; when this is cancelled, it has ended before that takes effect."""
        task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._is_wanted = False
            while not task.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({task})
            task.exception()
            raise


async def beside(child: process.Child, working: Awaitable[T]) -> tuple[T, process.Completed]:
    """Return what comes of work that a child gives to or takes from, and how the child ended; neither outlives this."""
    task = asyncio.ensure_future(working)
    try:
        return await asyncio.shield(task), await child.wait()
    finally:
        try:
            await child.stop()  # first, so that the thread does not wait for it
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
