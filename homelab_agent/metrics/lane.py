"""A lane: calls that may hang, one after the other on a daemon thread of their own, each with a deadline.

A call that hangs (statvfs on a dead mount cannot be interrupted) keeps its thread and is left alone until it
returns; a new thread takes over the lane. Daemon threads, unlike those of an executor, never delay the
interpreter's exit.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Generic, TypeVar

from homelab_agent.core.errors import describe
from homelab_agent.metrics.host import NotAvailable
from homelab_agent.metrics.sample import Status

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What came of one call: its value, or the cause in words; `ms` is its time, or its age if stuck."""

    status: Status
    ms: float
    value: T | None = None
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """Something that may hang, and how long it may take, in seconds."""

    run: Callable[[], T]
    deadline: float


@dataclass(slots=True)
class Errand(Generic[T]):
    """Calls on their way through a lane."""

    todo: deque[tuple[str, Call[T]]]
    finished: Callable[[], None]
    outcomes: dict[str, Outcome[T]] = field(default_factory=dict)
    running: tuple[str, float, float] | None = None
    thread: threading.Thread | None = None


class Lane(Generic[T]):
    """Runs errands, each of named calls, one errand at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._queue: SimpleQueue[Errand[T] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stuck: dict[str, float] = {}

    async def gather(self, calls: Mapping[str, Call[T]]) -> dict[str, Outcome[T]]:
        """Make the calls without blocking the loop; return each one's outcome."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def finished() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(done.set)

        errand = self.submit(calls, finished)
        while (left := self._left(errand)) > 0:
            timer = loop.call_later(left, done.set)
            await done.wait()
            timer.cancel()
            done.clear()
        return errand.outcomes

    def submit(self, calls: Mapping[str, Call[T]], finished: Callable[[], None]) -> Errand[T]:
        """Start the calls; `finished` is called from the lane's thread when all came back in time."""
        errand: Errand[T] = Errand(deque(), finished)
        with self._lock:
            for name, call in calls.items():
                if (since := self._stuck.get(name)) is None:
                    errand.todo.append((name, call))
                else:
                    errand.outcomes[name] = _no_answer(Status.STUCK, since)
            if errand.todo:
                self._start(errand)
        return errand

    def wait(self, errand: Errand[T], done: threading.Event) -> dict[str, Outcome[T]]:
        """Wait until the errand is through, not in the loop's thread; `done` is what `finished` sets."""
        while (left := self._left(errand)) > 0:
            done.wait(left)
        return errand.outcomes

    def close(self) -> None:
        """Let the thread end once it has nothing to do."""
        self._queue.put(None)
        self._thread = None

    def _start(self, errand: Errand[T]) -> None:
        if self._thread is None:
            self._queue = SimpleQueue()
            self._thread = threading.Thread(target=self._work, args=(self._queue,), name=self._name, daemon=True)
            self._thread.start()
        name, call = errand.todo[0]
        errand.running = (name, time.monotonic(), call.deadline)
        errand.thread = self._thread
        self._queue.put(errand)

    def _left(self, errand: Errand[T]) -> float:
        """Return how long to wait for the call that runs, 0 when all are through."""
        with self._lock:
            if errand.running is None:
                return 0.0
            name, since, deadline = errand.running
            left = since + deadline - time.monotonic()
            if left > 0:
                return left
            errand.outcomes[name] = _no_answer(Status.TIMEOUT, since)
            errand.running = errand.thread = self._thread = None
            if errand.todo and errand.todo[0][0] == name:  # its thread never came to it
                errand.todo.popleft()
            else:
                self._stuck[name] = since
            if not errand.todo:
                return 0.0
            self._start(errand)
            return errand.todo[0][1].deadline

    def _work(self, queue: SimpleQueue[Errand[T] | None]) -> None:
        while (errand := queue.get()) is not None:
            if not self._go_through(errand):
                return

    def _go_through(self, errand: Errand[T]) -> bool:
        """Make an errand's calls; return False when the lane has gone on without this thread."""
        me = threading.current_thread()
        while True:
            with self._lock:
                if errand.thread is not me:
                    return False
                if not errand.todo:
                    errand.running = None
                    break
                name, call = errand.todo.popleft()
                began = time.monotonic()
                errand.running = (name, began, call.deadline)
            outcome = _make(call.run, began)
            with self._lock:
                if errand.thread is not me:
                    self._stuck.pop(name, None)
                    return False
                errand.outcomes[name] = outcome
        errand.finished()
        return True


def _make(run: Callable[[], T], began: float) -> Outcome[T]:
    try:
        value = run()
    except NotAvailable as error:
        return Outcome(Status.NOT_AVAILABLE, _since(began), cause=error.message)
    except Exception as error:  # noqa: BLE001 - whatever a call raises is its outcome
        return Outcome(Status.FAILED, _since(began), cause=describe(error))
    return Outcome(Status.OK, _since(began), value)


def _no_answer(status: Status, since: float) -> Outcome[T]:
    ms = _since(since)
    return Outcome(status, ms, cause=f"no answer for {ms / 1000:.0f} s")


def _since(began: float) -> float:
    return (time.monotonic() - began) * 1000
