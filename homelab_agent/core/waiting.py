"""Waiting with an end to it, for tasks or for an event, by the clock that tests can move."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection
from typing import Any, TypeVar

from homelab_agent.core.clock import Clock

T = TypeVar("T")


async def all_done(tasks: Collection[asyncio.Future[Any]], clock: Clock, *, within: float) -> bool:
    """Wait until all `tasks` are done, at most `within` seconds; return whether they are. Cancels none."""
    limit = asyncio.ensure_future(clock.sleep(within))
    pending = {task for task in tasks if not task.done()}
    try:
        while pending and not limit.done():
            await asyncio.wait({*pending, limit}, return_when=asyncio.FIRST_COMPLETED)
            pending = {task for task in pending if not task.done()}
    finally:
        limit.cancel()
    return not pending


async def is_set(event: asyncio.Event, clock: Clock, *, within: float) -> bool:
    """Wait until `event` is set, at most `within` seconds; return whether it is."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        return await all_done([waiting], clock, within=within)
    finally:
        waiting.cancel()


async def to_the_end(work: Awaitable[T]) -> T:
    """Return what `work` does. It is not cancelled when we are: that takes effect when it has ended."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled and task.exception() is None:
        raise asyncio.CancelledError
    return task.result()
