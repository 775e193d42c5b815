"""Keeps one door: looks, decides, does what was decided; one look after the other, as long as the agent runs.

Whatever ends it, nobody is let in any more before anything else happens, and then the session ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock
from homelab_agent.core.errors import AgentError
from homelab_agent.core.state import StateUnavailable
from homelab_agent.core.waiting import all_done
from homelab_agent.gate import policy, prerequisites, reading
from homelab_agent.gate.child import Session
from homelab_agent.gate.front import Front
from homelab_agent.gate.intent import Hold
from homelab_agent.gate.policy import Gate, Order, Seen, Timing
from homelab_agent.gate.prerequisites import Door, Obstacle
from homelab_agent.gate.reading import Presence, Reading
from homelab_agent.gate.readiness import STOPS, Readiness
from homelab_agent.gate.tailscale import DaemonUnreachable, Tailscaled
from homelab_agent.gate.visitor import Visit

LOOK_SECONDS = 10.0
"""A look, and what follows from it, takes no longer."""

log = journal.logger("gate")


class Lookout(Protocol):
    """Who looks whether visitors would be served."""

    def expect_by(self, seconds: float) -> None:
        """Note that the next look is due in so many seconds."""

    async def look(self) -> Readiness:
        """Look once; raises nothing."""


@dataclass(frozen=True, slots=True)
class Found:
    """What tailscaled said at the last look; `warnings` do not keep the door shut."""

    entry: Presence
    obstacle: Obstacle | None = None
    warnings: tuple[Obstacle, ...] = ()
    told: Reading | None = None


class Keeper:
    """One door; `gate` is how it stands, `found` what tailscaled said last."""

    def __init__(
        self,
        name: str,
        door: Door,
        session: Session,
        daemon: Tailscaled,
        front: Front,
        lookout: Lookout,
        clock: Clock,
        *,
        target: str,
        timing: Timing,
        held: Callable[[], Awaitable[Hold | None]],
        looked: Callable[[Keeper], None],
    ) -> None:
        """`target` is where requests go ("http://127.0.0.1:8085"); `held` says who holds the door.

        `looked` is called after each look.
        """
        self.name = name
        self.gate = Gate()
        self.found = Found("unknown")
        self.hold: Hold | None = None
        self.checks: tuple[str, ...] = ()
        self._door = door
        self._session = session
        self._daemon = daemon
        self._front = front
        self._lookout = lookout
        self._clock = clock
        self._target = target
        self._timing = timing
        self._held = held
        self._looked = looked
        self._woken = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._unrecorded = ""
        self._ended: Obstacle | None = None
        self._visit: Visit | None = None

    @property
    def address(self) -> str:
        """Where the door is reached, "" while tailscaled has not said its name."""
        name = self.found.told.name if self.found.told else ""
        return f"https://{name}:{self._door.port}" if name else ""

    @property
    def since(self) -> datetime:
        """When the door's phase began."""
        now = self._clock.read()
        return now.wall - timedelta(seconds=max(0.0, now.monotonic - self.gate.since))

    def wake(self) -> None:
        """Look at once: something has happened that may shut the door, or that somebody waits for."""
        self._woken.set()

    async def look_now(self) -> None:
        """Look at once, and return when what was decided is done, or after `LOOK_SECONDS`."""
        looked = asyncio.get_running_loop().create_future()
        self._waiting.append(looked)
        self.wake()
        await all_done([looked], self._clock, within=LOOK_SECONDS)

    def met(self, visit: Visit) -> None:
        """Take what a visitor from outside met."""
        self._visit = visit
        self.wake()

    async def run(self) -> None:
        """Keep the door, until cancelled."""
        self.gate = Gate(since=self._clock.read().monotonic)
        try:
            while True:
                self._woken.clear()
                waiting, self._waiting = self._waiting, []
                pause = await self._cycle()
                for looked in waiting:
                    looked.set_result(None)
                self._lookout.expect_by(pause)
                await self._until_woken(pause)
        finally:
            self._front.shut()
            await self._session.close()
            with suppress(StateUnavailable):  # the next start records it
                await self._front.record(STOPS, ())

    async def _cycle(self) -> float:
        seen = await self._look()
        before = self.gate
        self.gate, order = policy.step(before, seen, self._timing)
        if not policy.lets_in(self.gate):
            self._front.shut()
        await self._carry_out(order, seen)
        await self._let_in_or_record()
        self._tell(before)
        self._looked(self)
        return policy.next_look(self.gate, order, self._timing)

    async def _look(self) -> Seen:
        ready, self.found, (self.hold, unknown) = await asyncio.gather(
            self._lookout.look(), self._ask(), self._ask_hold()
        )
        self.checks = ready.checks
        visit, self._visit = self._visit, None
        return Seen(
            now=self._clock.read().monotonic,
            ready=ready.ready,
            entry=self.found.entry,
            child=self._session.running,
            why_not=ready.why_not,
            urgent=unknown or self._unrecorded or ready.urgent,
            hold=self.hold,
            obstacle=self.found.obstacle,
            ended=self._why_ended(),
            path=visit.alive if visit else None,
            met=visit.detail if visit else "",
        )

    async def _ask(self) -> Found:
        """Ask tailscaled how it stands and what it publishes on our port."""
        try:
            told = await self._daemon.read()
        except DaemonUnreachable as error:
            return Found("unknown", Obstacle(str(error), error.repair))
        entry = reading.presence(
            told.config,
            self._door.port,
            name=told.name,
            target=self._target,
            is_funnel=self._door.is_funnel,
            child_runs=self._session.running,
        )
        if entry == "foreign":
            taken = prerequisites.conflict(told.config.entries(self._door.port), self._door.port)
            return Found(entry, taken, told=told)
        obstacles = prerequisites.obstacles(told, self._door, self._clock.read().wall)
        blocking = next((one for one in obstacles if one.blocks), None)
        return Found(entry, blocking, tuple(one for one in obstacles if not one.blocks), told)

    async def _ask_hold(self) -> tuple[Hold | None, str]:
        """Return who holds the door, or why nobody can know: then it may not be open."""
        try:
            return await self._held(), ""
        except StateUnavailable as error:
            return None, str(error)

    async def _carry_out(self, order: Order, seen: Seen) -> None:
        """Begin or end the session. What fails is said, and seen at the next look."""
        try:
            match order:
                case "open":
                    self._ended = None
                    await self._session.open()
                case "shut":
                    await self._session.close()
                    if seen.entry in {"ours", "stale"}:
                        await self._daemon.drop(self._door.port, self._target)
                case "":
                    pass
        except AgentError as error:
            self._ended = Obstacle(str(error), error.repair)
            log.warning("gate.not_done", door=self.name, order=order, error=error)

    async def _let_in_or_record(self) -> None:
        try:
            if policy.lets_in(self.gate):
                await self._front.open(self.gate.why)
            await self._front.record(self.gate.shut_why or self.gate.why, self.checks)
            self._unrecorded = ""
        except StateUnavailable as error:  # what is not on disk does not happen
            self._front.shut()
            self._unrecorded = str(error)
            log.warning("gate.not_recorded", door=self.name, error=error)

    def _why_ended(self) -> Obstacle | None:
        cause = self._session.cause
        return Obstacle(cause.what, cause.repair) if cause is not None else self._ended

    def _tell(self, before: Gate) -> None:
        now = self.gate
        if (now.phase, now.overlay) == (before.phase, before.overlay):
            return
        tell = log.warning if now.overlay in {"blocked", "conflict", "unknown"} or now.phase == "degraded" else log.info
        tell(
            "gate.stands",
            door=self.name,
            phase=now.phase,
            overlay=now.overlay,
            why=now.why,
            repair=now.repair,
            checks=", ".join(self.checks),
        )

    async def _until_woken(self, seconds: float) -> None:
        woken = asyncio.ensure_future(self._woken.wait())
        try:
            await all_done([woken], self._clock, within=seconds)
        finally:
            woken.cancel()
