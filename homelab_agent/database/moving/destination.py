"""Where a move goes: another server's address, or the embedded server, which is started for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from homelab_agent.core.errors import AgentError
from homelab_agent.core.secret import Secrets
from homelab_agent.database.address import Address, Elsewhere
from homelab_agent.database.embedded import STOP_SECONDS, Embedded
from homelab_agent.database.settings import EMBEDDED, DatabaseSettings


class Destination:
    """`settings` are the section as it will be; nothing is asked or started yet."""

    def __init__(self, settings: DatabaseSettings, secrets: Secrets, directory: Path) -> None:
        """Find the secrets, and read none yet; raises `ReferenceFaulty`."""
        self.settings = settings
        self.embedded = Embedded(directory) if settings.url == EMBEDDED else None
        self._elsewhere = None if self.embedded else Elsewhere(settings, secrets)
        self._hide = secrets.hide

    async def address(self, say: Callable[[str], None]) -> Address:
        """Return the address, where the embedded server listens once it is started; raises `AgentError`s."""
        if self.embedded is not None:
            where = await self.embedded.start(say)
        else:
            assert self._elsewhere is not None  # noqa: S101 - one of the two is there
            where = await asyncio.to_thread(self._elsewhere.address)
        self._hide(where.password)
        return where

    async def leave(self) -> None:
        """Stop what was started for the move, which is not gone through with."""
        if self.embedded is not None:
            with suppress(AgentError):
                await self.embedded.stop(STOP_SECONDS)
