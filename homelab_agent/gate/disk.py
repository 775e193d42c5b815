"""The disk under state.db, which may hang: a door is not kept waiting by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from homelab_agent.core.state import StateUnavailable

PATIENCE_SECONDS = 2.0
"""How long it may take to say whether the door is held, or that it is open; after that nobody is let in any more."""


class StateSilent(StateUnavailable):
    """state.db does not answer within {seconds:g} s."""

    repair = "journalctl -k -p err"


@asynccontextmanager
async def promptly() -> AsyncIterator[None]:
    """Do it within `PATIENCE_SECONDS`, or raise `StateSilent`: what is not on disk does not happen."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield
    except TimeoutError:
        raise StateSilent(seconds=PATIENCE_SECONDS) from None
