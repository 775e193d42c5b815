"""A thread for each call that may hang, one at a time: a daemon, which delays neither the loop nor the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class StillBusy(Exception):
    """The call before this one has not come back yet."""


class Thread:
    """Makes one call at a time in a thread called `name`; who hangs keeps it, and no second one is begun beside it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._outcome: Future[Any] | None = None

    async def run(self, function: Callable[..., T], *arguments: object, within: float) -> T:
        """Return what `function` returns, raise what it raises, TimeoutError after `within` seconds, `StillBusy`."""
        if self._outcome is not None and not self._outcome.done():
            raise StillBusy
        outcome: Future[Any] = Future()
        outcome.set_running_or_notify_cancel()  # so that who gives up waiting does not keep it from ending
        self._outcome = outcome
        threading.Thread(target=_work, args=(outcome, function, arguments), name=self._name, daemon=True).start()
        async with asyncio.timeout(within):
            result: T = await asyncio.wrap_future(outcome)
            return result


def _work(outcome: Future[Any], function: Callable[..., object], arguments: tuple[object, ...]) -> None:
    try:
        result = function(*arguments)
    except BaseException as error:  # noqa: BLE001 - it is raised where the outcome is awaited
        outcome.set_exception(error)
    else:
        outcome.set_result(result)
