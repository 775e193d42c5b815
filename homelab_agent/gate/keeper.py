"""Keeps one door: looks, decides, does what was decided; one look after the other, as long as the agent runs.

Whatever ends it, nobody is let in any more before anything else happens, and then the session ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock
from homelab_agent.core.errors import AgentError, describe
from homelab_agent.core.state import StateUnavailable
from homelab_agent.core.waiting import all_done, is_set
from homelab_agent.gate import disk, policy
from homelab_agent.gate.child import Session
from homelab_agent.gate.front import Front
from homelab_agent.gate.policy import Gate, Order, Phase, Seen, Timing
from homelab_agent.gate.prerequisites import Obstacle
from homelab_agent.gate.readiness import STOPS
from homelab_agent.gate.visitor import Visit
from homelab_agent.gate.watch import Watch

LOOK_SECONDS = 10.0
"""A look, and what follows from it, takes no longer."""

FRESH_SECONDS = 2.0
"""A look that is older opens no door."""

log = journal.logger("gate")


class Keeper:
    """One door; `gate` is how it stands, `watch` knows what was seen last. `looked` is called after each look."""

    def __init__(
        self,
        name: str,
        watch: Watch,
        session: Session,
        front: Front,
        timing: Timing,
        clock: Clock,
        looked: Callable[[Keeper], None],
    ) -> None:
        self.name = name
        self.gate = Gate()
        self.watch = watch
        self._session = session
        self._front = front
        self._timing = timing
        self._clock = clock
        self._looked = looked
        self._woken = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._unrecorded = ""
        self._ended: Obstacle | None = None
        self._visit: Visit | None = None

    @property
    def address(self) -> str:
        """Where the door is reached, "" while tailscaled has not said its name."""
        told = self.watch.found.told
        return f"https://{told.name}:{self.watch.door.port}" if told is not None and told.name else ""

    @property
    def phase(self) -> Phase:
        """How it stands, for who asks: it is open only when visitors are let in, of which the disk hears first."""
        return "opening" if policy.lets_in(self.gate) and not self._front.is_open else self.gate.phase

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
        self.gate, why = Gate(since=self._clock.read().monotonic), STOPS
        try:
            with suppress(StateUnavailable):  # before the next opening it is tried again
                await self._front.settle()
            while True:
                self._woken.clear()
                waiting, self._waiting = self._waiting, []
                pause = await self._cycle()
                for looked in waiting:
                    looked.set_result(None)
                await is_set(self._woken, self._clock, within=pause)
        except Exception as error:
            why = f"the door's keeper has failed: {describe(error)}"
            raise
        finally:
            await self._leave(why)

    async def _leave(self, why: str) -> None:
        """Let nobody in, end the session, and say `why`."""
        self._front.shut()
        try:
            await self._session.close()
        finally:
            self.gate = Gate(since=self._clock.read().monotonic, why=why)
            with suppress(StateUnavailable):  # the next start records it
                async with disk.promptly():
                    await self._front.record(why, ())
            self._looked(self)

    async def _cycle(self) -> float:
        visit, self._visit = self._visit, None
        seen = await self.watch.look(urgent=self._unrecorded, ended=self._ended, visit=visit)
        before = self.gate
        self.gate, order = policy.step(before, seen, self._timing)
        if not policy.lets_in(self.gate):
            self._front.shut()
        await self._carry_out(order, seen)
        await self._let_in_or_record(seen)
        self._tell(before)
        self._looked(self)
        return policy.next_look(self.gate, order, self._timing)

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
                        await self.watch.take_back()
                case "":
                    pass
        except AgentError as error:
            self._ended = Obstacle(str(error), error.repair)
            log.warning("gate.not_done", door=self.name, order=order, error=error)
        except Exception as error:  # a door that cannot be opened must not keep the others from being looked at
            self._ended = Obstacle(describe(error), "journalctl -u homelab-agent")
            log.exception("gate.not_done", door=self.name, order=order)

    async def _let_in_or_record(self, seen: Seen) -> None:
        """Let visitors in, if that is on disk and what was seen is what is so; put on disk how the door stands."""
        try:
            async with disk.promptly():
                if policy.lets_in(self.gate):
                    await self._front.prepare(self.gate.why)
                    if self._is_still_so(seen):
                        self._front.open()
                    else:
                        self.wake()
                await self._front.record(self.gate.shut_why or self.gate.why, self.watch.checks)
            self._unrecorded = ""
        except StateUnavailable as error:
            self._front.shut()
            self._unrecorded = str(error)
            log.warning("gate.not_recorded", door=self.name, error=self._unrecorded)
            if policy.lets_in(self.gate):
                self.wake()

    def _is_still_so(self, seen: Seen) -> bool:
        """Return whether nothing was heard since a look, and it is not long ago: the disk may have taken its time."""
        return not self._woken.is_set() and self._clock.read().monotonic - seen.now < FRESH_SECONDS

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
            checks=", ".join(self.watch.checks),
        )
