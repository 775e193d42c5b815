"""The first layer: who comes from the internet is answered by the web server only while the door is open.

It is the last to open and the first to shut, and each opening is in the ledger before it begins.
"""

from __future__ import annotations

from collections.abc import Sequence

from homelab_agent.core.door import PublicDoor
from homelab_agent.gate.ledger import Ledger


class Front:
    """Nothing, as before the tailnet's doors: the web server asks everybody there to log in, open or not."""

    @property
    def is_open(self) -> bool:
        """Whether visitors are let in, as far as that is up to us."""
        return True

    async def settle(self) -> None:
        """Put on disk what an earlier agent left open; raises `StateUnavailable`."""

    async def prepare(self, why: str) -> None:
        """Put on disk that visitors are let in from now on; raises `StateUnavailable`."""

    def open(self) -> None:
        """Let visitors in; at once, so that nothing has happened since it was decided."""

    def shut(self) -> None:
        """Let nobody in any more; at once, and whatever the disk does."""

    async def record(self, why: str, checks: Sequence[str]) -> None:
        """Put on disk how it stands now; `why` it is shut if it is. Raises `StateUnavailable`."""


class PublicFront(Front):
    """The internet's: the web server's door, and the ledger of its openings."""

    def __init__(self, door: PublicDoor, ledger: Ledger) -> None:
        self._door = door
        self._ledger = ledger

    @property
    def is_open(self) -> bool:
        """Whether the web server answers them."""
        return self._door.is_open

    async def settle(self) -> None:
        """End in the ledger what a killed agent left open."""
        await self._ledger.settle()

    async def prepare(self, why: str) -> None:
        """Begin an opening in the ledger, if none lasts."""
        if self._ledger.present is None and not self._door.is_barred:
            await self._ledger.begin(why)

    def open(self) -> None:
        """Let visitors in, if that is on disk."""
        if self._ledger.present is not None:
            self._door.open()

    def shut(self) -> None:
        """Let nobody in."""
        self._door.shut()

    async def record(self, why: str, checks: Sequence[str]) -> None:
        """Put on disk that it is open still, or that it is shut."""
        if self._door.is_open:
            await self._ledger.beat(self._door.visits())
        elif self._ledger.present is not None:
            await self._ledger.end(why, self._door.visits(), checks=checks)
        elif self._ledger.owes:
            await self._ledger.settle()
