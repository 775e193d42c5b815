"""What is seen of one door at a look: ourselves, tailscaled, the operator's word, and our own session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from homelab_agent.core import journal
from homelab_agent.core.clock import Clock
from homelab_agent.core.errors import describe
from homelab_agent.core.state import StateUnavailable
from homelab_agent.gate import disk, prerequisites, reading
from homelab_agent.gate.child import Session
from homelab_agent.gate.intent import Hold
from homelab_agent.gate.policy import Seen
from homelab_agent.gate.prerequisites import Door, Obstacle
from homelab_agent.gate.readiness import Readiness
from homelab_agent.gate.reading import Presence, Reading
from homelab_agent.gate.tailscale import DaemonUnreachable, Tailscaled
from homelab_agent.gate.visitor import Visit

log = journal.logger("gate")


class Lookout(Protocol):
    """Who looks whether visitors would be served."""

    async def look(self) -> Readiness:
        """Look once; raises nothing."""


@dataclass(frozen=True, slots=True)
class Found:
    """What tailscaled said at a look; `warnings` do not keep the door shut."""

    entry: Presence
    obstacle: Obstacle | None = None
    warnings: tuple[Obstacle, ...] = ()
    told: Reading | None = None


class Watch:
    """Looks at one door; `found`, `hold` and `checks` are of the last look."""

    def __init__(
        self,
        door: Door,
        session: Session,
        daemon: Tailscaled,
        lookout: Lookout,
        held: Callable[[], Awaitable[Hold | None]],
        clock: Clock,
    ) -> None:
        """`held` says who holds the door; it may raise `StateUnavailable`."""
        self.found = Found("unknown")
        self.hold: Hold | None = None
        self.checks: tuple[str, ...] = ()
        self._lookout = lookout
        self.door = door
        self._session = session
        self._daemon = daemon
        self._held = held
        self._clock = clock

    async def look(self, *, urgent: str, ended: Obstacle | None, visit: Visit | None) -> Seen:
        """Look once; raises nothing. What the keeper knows is given: what is `urgent`, why the session ended."""
        ready, self.found, (self.hold, unknown) = await asyncio.gather(
            self._lookout.look(), self._ask(), self._ask_hold()
        )
        self.checks = ready.checks
        return Seen(
            now=self._clock.read().monotonic,
            ready=ready.ready,
            entry=self.found.entry,
            child=self._session.running,
            why_not=ready.why_not,
            urgent=unknown or urgent or ready.urgent,
            hold=self.hold,
            obstacle=self.found.obstacle,
            ended=self._session.cause or ended,
            path=visit.alive if visit else None,
            met=visit.detail if visit else "",
        )

    async def take_back(self) -> None:
        """Have tailscaled end what is left on our port that leads to us; raises as `Tailscaled.drop` does."""
        await self._daemon.drop(self.door.port, self._session.command.target)

    async def _ask(self) -> Found:
        """Ask tailscaled how it stands and what it publishes on our port."""
        try:
            told = await self._daemon.read()
            return self._understood(told)
        except DaemonUnreachable as error:
            return Found("unknown", Obstacle(str(error), error.repair))
        except Exception as error:
            log.exception("gate.not_understood", port=self.door.port)
            why = f"what tailscaled answers is not understood: {describe(error)}"
            return Found("unknown", Obstacle(why, "tailscale funnel status --json"))

    def _understood(self, told: Reading) -> Found:
        target = self._session.command.target
        entry = reading.presence(
            told.config,
            self.door.port,
            name=told.name,
            target=target,
            is_funnel=self.door.is_funnel,
            child_runs=self._session.running,
        )
        if entry == "foreign":
            return Found(entry, prerequisites.conflict(told.config.entries(self.door.port), self.door.port), told=told)
        obstacles = prerequisites.obstacles(told, self.door, self._clock.read().wall)
        blocking = next((one for one in obstacles if one.blocks), None)
        warnings = [*prerequisites.bypasses(told.config, target), *(one for one in obstacles if not one.blocks)]
        return Found(entry, blocking, tuple(warnings), told)

    async def _ask_hold(self) -> tuple[Hold | None, str]:
        """Return who holds the door, or why nobody can know: then it may not be open."""
        try:
            async with disk.promptly():
                return await self._held(), ""
        except StateUnavailable as error:
            return None, str(error)
