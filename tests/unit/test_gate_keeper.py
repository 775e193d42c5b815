"""The keeper's own ways: what a disk that hangs, a child that cannot be started and an end in the middle leave open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from homelab_agent.core.clock import SystemClock
from homelab_agent.core.process import ProgramWillNotEnd
from homelab_agent.gate import disk
from homelab_agent.gate import keeper as keepers
from homelab_agent.gate.keeper import Keeper
from homelab_agent.gate.policy import Seen, Timing
from homelab_agent.gate.prerequisites import Door
from homelab_agent.gate.watch import Found
from tests.clock import until

QUICK = Timing(rise=1, fall=1, every=0.02, in_doubt=0.01, open_at_least=0.0, closed_at_least=0.0)


@dataclass(slots=True)
class Front:
    """A front whose disk hangs while it is told to."""

    is_open: bool = False
    records: asyncio.Event = field(default_factory=asyncio.Event)
    begins: asyncio.Event = field(default_factory=asyncio.Event)
    prepared: int = 0
    recorded: list[str] = field(default_factory=list)

    async def settle(self) -> None:
        """Do nothing."""

    async def prepare(self, why: str) -> None:  # noqa: ARG002
        """Wait for the disk."""
        self.prepared += 1
        await self.begins.wait()

    def open(self) -> None:
        """Let visitors in."""
        self.is_open = True

    def shut(self) -> None:
        """Let nobody in."""
        self.is_open = False

    async def record(self, why: str, checks: Sequence[str]) -> None:  # noqa: ARG002
        """Wait for the disk, and remember."""
        await self.records.wait()
        self.recorded.append(why)


@dataclass(slots=True)
class Session:
    """A session whose child may fail to start or to end."""

    running: bool = False
    fails_to_open: bool = False
    fails_to_close: bool = False
    opened: int = 0

    async def open(self) -> None:
        """Start the child."""
        self.opened += 1
        if self.fails_to_open:
            raise RuntimeError("can't start new thread")
        self.running = True

    async def close(self) -> None:
        """End the child."""
        if self.fails_to_close:
            raise ProgramWillNotEnd(program="tailscale", pid=1)
        self.running = False


class Watch:
    """Sees what the test says."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.ready = True
        self.fails = False
        self.found = Found("none")
        self.hold = None
        self.checks = ()
        self.door = Door(8443, is_funnel=True, user="root", safe_versions=[])

    async def look(self, *, urgent: str, ended: object, visit: object) -> Seen:  # noqa: ARG002
        """Look."""
        if self.fails:
            raise ZeroDivisionError
        running = self.session.running
        now = SystemClock().read().monotonic
        return Seen(now, ready=self.ready, entry="ours" if running else "none", child=running, urgent=urgent)


@dataclass(slots=True)
class House:
    """One keeper at work."""

    front: Front
    session: Session
    watch: Watch
    keeper: Keeper
    task: asyncio.Task[None]


@asynccontextmanager
async def kept(change: Callable[[Front, Session, Watch], Any] = lambda *_: None) -> AsyncIterator[House]:
    """Give a keeper that runs."""
    front, session = Front(), Session()
    front.records.set()
    front.begins.set()
    watch = Watch(session)
    change(front, session, watch)
    parts = cast("Any", (watch, session, front))
    keeper = Keeper("funnel", parts[0], parts[1], parts[2], QUICK, SystemClock(), lambda _: None)
    task = asyncio.create_task(keeper.run())
    try:
        yield House(front, session, watch, keeper, task)
    finally:
        front.records.set()
        front.begins.set()
        session.fails_to_close = False
        task.cancel()
        with suppress(asyncio.CancelledError, ProgramWillNotEnd, ZeroDivisionError):
            await task


async def test_it_opens_and_shuts_as_it_is_decided() -> None:
    async with kept() as here:
        await until(lambda: here.front.is_open, "it is open")
        here.watch.ready = False
        await until(lambda: not here.front.is_open and not here.session.running, "it is shut")
        await until(lambda: here.keeper.gate.phase == "closed", "and closed")


async def test_a_disk_that_hangs_leaves_no_open_door_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "PATIENCE_SECONDS", 0.05)
    async with kept() as here:
        await until(lambda: here.front.is_open, "it is open")
        here.front.records.clear()
        await until(lambda: not here.front.is_open, "nobody is let in")
        await until(lambda: not here.session.running, "the session ends")
        here.front.records.set()
        await until(lambda: here.front.is_open, "it opens again")


async def test_what_was_heard_while_the_disk_took_its_time_comes_before_an_opening() -> None:
    async with kept(lambda front, *_: front.begins.clear()) as here:
        await until(lambda: here.front.prepared > 0, "an opening is written down")
        here.watch.ready = False
        here.keeper.wake()
        here.front.begins.set()
        await until(lambda: here.keeper.gate.phase == "closed", "it is closed")
        assert not here.front.is_open


async def test_a_look_that_is_old_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with kept(lambda front, *_: front.begins.clear()) as here:
        await until(lambda: here.front.prepared > 0, "an opening is written down")
        monkeypatch.setattr(keepers, "FRESH_SECONDS", -1.0)
        here.front.begins.set()
        seen = here.front.prepared
        await until(lambda: here.front.prepared > seen + 3, "it looks again and again")
        assert not here.front.is_open
        assert here.keeper.phase == "opening", "it is not called open while nobody is let in"
        monkeypatch.setattr(keepers, "FRESH_SECONDS", 2.0)
        await until(lambda: here.front.is_open, "a fresh look opens it")
        await until(lambda: here.keeper.phase == "open", "and it is called so")


async def test_what_keeps_a_child_from_starting_keeps_nobody_from_looking() -> None:
    async with kept(lambda _, session, __: setattr(session, "fails_to_open", True)) as here:
        await until(lambda: here.session.opened > 2, "it is tried again")
        assert not here.task.done()
        here.session.fails_to_open = False
        await until(lambda: here.front.is_open, "it is open")


async def test_a_keeper_that_fails_leaves_a_door_that_is_shut_and_says_so() -> None:
    async with kept() as here:
        await until(lambda: here.front.is_open, "it is open")
        here.watch.fails = True
        with pytest.raises(ZeroDivisionError):
            await here.task
        assert not here.front.is_open
        assert not here.session.running
        assert here.front.recorded[-1] == here.keeper.gate.why == "the door's keeper has failed: ZeroDivisionError"


async def test_in_the_end_it_is_shut_recorded_and_said_whatever_the_child_does() -> None:
    async with kept() as here:
        await until(lambda: here.front.is_open, "it is open")
        here.session.fails_to_close = True
        here.task.cancel()
        with suppress(asyncio.CancelledError, ProgramWillNotEnd):
            await here.task
        assert not here.front.is_open
        assert here.keeper.gate.phase == "closed"
        assert here.front.recorded[-1] == "the agent stops"
