"""A new password: tried at the server first, then used for each connection from then on; no query fails for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from homelab_agent.core.errors import AgentError
from homelab_agent.core.secret import SecretStale
from homelab_agent.database import pool
from homelab_agent.database.address import Elsewhere
from homelab_agent.database.pool import Pool


class Rotation:
    """Changes a pool over when a secret changes that its address is made of."""

    def __init__(self, elsewhere: Elsewhere, current: Callable[[], Pool | None], *, repair: str) -> None:
        """Take part in the changes; `current` gives the pool in use, None while PostgreSQL is not reached."""
        self._elsewhere = elsewhere
        self._current = current
        self._repair = repair
        self._is_over = False
        for each in elsewhere.secrets:
            each.on_change(self._try_out, self._adopt)

    def end(self) -> None:
        """Take no part any more: another server is used."""
        self._is_over = True

    async def renew(self) -> None:
        """Read the secrets again, for the server refuses what we have; a new one that works is adopted."""
        for each in self._elsewhere.secrets:
            with suppress(AgentError):  # what is wrong with it is seen where it is held, and here by the refusal
                await each.refresh()

    def stale(self) -> SecretStale | None:
        """Return which secret could not be asked for again for too long; PostgreSQL is used while it lets us in."""
        for each in self._elsewhere.secrets:
            try:
                each.get()
            except SecretStale as error:
                return error
            except AgentError:  # it was never read; why, is said where it is
                continue
        return None

    async def _try_out(self, _: str) -> None:
        """Log in with all that is on trial: user and password may change together."""
        if self._is_over:
            return
        where = await asyncio.to_thread(self._elsewhere.proposed)
        async with pool.single(where, repair=self._repair) as connection:
            await connection.fetch("SELECT 1")

    async def _adopt(self, _: str) -> None:
        """Have each connection made anew when it is next asked for; those at work finish first."""
        if not self._is_over and (source := self._current()) is not None:
            await pool.change_over(source, await asyncio.to_thread(self._elsewhere.address))
