"""A clock that a test moves: time passes only when the test says so."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from homelab_agent.core.clock import Instant

_TURNS = 20
"""How often the loop turns after a sleeper is woken: what follows without real waiting has then happened."""


class MovableClock:
    """Implements `core.clock.Clock`; `sleep` returns when the test has moved monotonic time past its end."""

    def __init__(self, wall: datetime = datetime(2026, 11, 24, 12, tzinfo=UTC)) -> None:
        self._wall = wall
        self._monotonic = 1000.0
        self._boot = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def read(self) -> Instant:
        """Return the moment the test has set."""
        return Instant(self._wall, self._monotonic, self._boot)

    async def sleep(self, seconds: float) -> None:
        """Wait until the test has moved the clock on by `seconds`; zero only yields, as asyncio does."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._numbers), woken))
        await woken

    @property
    def sleepers(self) -> int:
        """How many wait on this clock now."""
        return sum(not woken.done() for _, _, woken in self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass on all three clocks; whoever sleeps is woken in order, each at its own time."""
        await self._settle()
        end = self._monotonic + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, woken = heapq.heappop(self._sleepers)
            if woken.done():
                continue
            self._pass(max(0.0, at - self._monotonic))
            woken.set_result(None)
            await self._settle()
        self._pass(end - self._monotonic)
        await self._settle()

    def hang(self, seconds: float) -> None:
        """Let `seconds` pass as while something blocks the loop: who should wake meanwhile wakes only after."""
        self._pass(seconds)

    def step(self, seconds: float) -> None:
        """Set the wall clock forward, or back with a negative number, as an operator or NTP does."""
        self._wall += timedelta(seconds=seconds)

    def suspend(self, seconds: float) -> None:
        """Let the host sleep: wall and boot time go on, monotonic time and so every sleeper stands still."""
        self._wall += timedelta(seconds=seconds)
        self._boot += seconds

    def _pass(self, seconds: float) -> None:
        self._wall += timedelta(seconds=seconds)
        self._monotonic += seconds
        self._boot += seconds

    async def _settle(self) -> None:
        for _ in range(_TURNS):
            await asyncio.sleep(0)


async def until(condition: Callable[[], object], what: str, *, seconds: float = 10.0) -> None:
    """Wait in real time until `condition()` is true; fail when it is not within `seconds`."""
    end = asyncio.get_running_loop().time() + seconds
    while not condition():
        if asyncio.get_running_loop().time() > end:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(0.002)
