"""One thread in which everything is asked of OpenBao, one after the other, and which nobody has to wait for.

A call that does not come back in its time keeps its thread and is left alone; a new thread goes on with the next. A
daemon thread, unlike one of an executor, does not delay the end of the process.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")


class Closed(Exception):
    """The lane takes no more calls."""


@dataclass(slots=True, eq=False)
class _Call:
    run: Callable[[Any], object]
    outcome: Future[Any] = field(default_factory=Future)
    until: float = 0.0
    """Monotonic seconds, from its start on."""


class Lane(Generic[S]):
    """Makes calls with what `make` returns in the thread: never used by two threads, made anew by a new one.

    A call may take `within` seconds from its start on; then it fails with the error that `late` returns.
    """

    def __init__(self, name: str, make: Callable[[], S], *, within: float, late: Callable[[], Exception]) -> None:
        self._name = name
        self._make = make
        self._within = within
        self._late = late
        self._calls: deque[_Call] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._running: _Call | None = None
        self._is_closed = False
        self._made: S | None = None

    @property
    def made(self) -> S | None:
        """Return what the thread works with, None before its first call; for what may be read from any thread."""
        return self._made

    async def run(self, run: Callable[[S], T]) -> T:
        """Return what `run` returns, raise what it raises. Who is cancelled leaves it to end alone."""
        outcome: asyncio.Future[T] = asyncio.wrap_future(self._submit(run))
        try:
            while not outcome.done():
                await asyncio.wait([outcome], timeout=self._left())
                self._leave_late()
            return outcome.result()
        finally:
            if not outcome.cancel() and not outcome.cancelled():
                outcome.exception()  # it came together with a cancellation: nobody asks for it

    def run_blocking(self, run: Callable[[S], T]) -> T:
        """Return what `run` returns, raise what it raises, for a thread that may wait."""
        outcome: Future[T] = self._submit(run)
        while not outcome.done():
            wait([outcome], timeout=self._left())
            self._leave_late()
        return outcome.result()

    def close(self) -> None:
        """Let the thread end once it has nothing to do; what is called from now on raises `Closed`."""
        with self._changed:
            self._is_closed = True
            self._made = None
            self._changed.notify_all()

    def _submit(self, run: Callable[[S], T]) -> Future[T]:
        call = _Call(run)
        with self._changed:
            if self._is_closed:
                raise Closed
            self._calls.append(call)
            self._start()
            self._changed.notify_all()
        return call.outcome

    def _start(self) -> None:
        """Have a thread; where the host has none to give, all that waits for one fails with what it says."""
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            while self._calls:
                _settle(self._calls.popleft(), error=error)
        else:
            self._thread = thread

    def _left(self) -> float:
        """Return how long the running call, whoever's, still has."""
        with self._changed:
            return self._within if self._running is None else max(0.0, self._running.until - time.monotonic())

    def _leave_late(self) -> None:
        """Go on without the thread whose call is late."""
        with self._changed:
            late = self._running
            if late is None or time.monotonic() < late.until:
                return
            self._running = self._thread = self._made = None
            if self._calls:
                self._start()
        _settle(late, error=self._late())

    def _work(self) -> None:
        me = threading.current_thread()
        made: S | None = None
        while (call := self._next(me)) is not None:
            if not call.outcome.set_running_or_notify_cancel():
                continue
            try:
                if made is None:
                    made = self._make()
                    self._show(me, made)
                _settle(call, call.run(made))
            except BaseException as error:  # noqa: BLE001 - it is raised where the outcome is awaited
                _settle(call, error=error)

    def _next(self, me: threading.Thread) -> _Call | None:
        """Wait for something to do; None when this thread is to end."""
        with self._changed:
            if self._thread is not me:
                return None
            self._running = None
            while not self._calls and not self._is_closed:
                self._changed.wait()
            if not self._calls:
                return None
            call = self._running = self._calls.popleft()
            call.until = time.monotonic() + self._within
            return call

    def _show(self, me: threading.Thread, made: S) -> None:
        with self._changed:
            if self._thread is me and not self._is_closed:
                self._made = made


def _settle(call: _Call, result: object = None, *, error: BaseException | None = None) -> None:
    with suppress(InvalidStateError):  # the other side was faster
        if error is None:
            call.outcome.set_result(result)
        else:
            call.outcome.set_exception(error)
