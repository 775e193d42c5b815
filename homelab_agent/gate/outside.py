"""Sends a visitor from outside while the door is open: what is published need not be reached from the internet."""

from __future__ import annotations

from homelab_agent.core.clock import Clock
from homelab_agent.core.door import PUBLIC_PATH, PublicDoor
from homelab_agent.gate import policy
from homelab_agent.gate.keeper import Keeper
from homelab_agent.gate.visitor import Visitor

FIRST_SECONDS = 10.0
"""After an opening the first visitor comes so much later: the name takes a moment to be known."""


class Outside:
    """Visits the public address every so many seconds, and tells the keeper."""

    def __init__(self, keeper: Keeper, visitor: Visitor, door: PublicDoor, clock: Clock, *, every: float) -> None:
        self._keeper = keeper
        self._visitor = visitor
        self._door = door
        self._clock = clock
        self._every = every

    async def run(self) -> None:
        """Visit until cancelled."""
        first = min(FIRST_SECONDS, self._every)
        while True:
            await self._clock.sleep(first)
            if not policy.lets_in(self._keeper.gate) or not self._keeper.address:
                continue
            with self._door.probing() as nonce:
                visit = await self._visitor.visit(f"{self._keeper.address}{PUBLIC_PATH}", nonce)
            self._keeper.met(visit)
            await self._clock.sleep(self._every - first)
