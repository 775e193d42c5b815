"""Whose turn it is in a working copy.

The agent asks for one thing at a time there, but what it has asked for may outlive it: git puts back a move that was
cut short, an action ends in its grace. The next agent's calls come to the same root half, and wait for that here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal
from weakref import WeakValueDictionary

from homelab_agent.core import journal

_LOCKS: WeakValueDictionary[tuple[Path, str], asyncio.Lock] = WeakValueDictionary()
"""Those that somebody holds or waits for; they outlive the verbs, which are made anew with the configuration."""

log = journal.logger("gitops")


@asynccontextmanager
async def taken(directory: Path, what: Literal["git", "files"]) -> AsyncIterator[None]:
    """Wait until nobody else is at "git" there, or changes or needs its "files", then keep others out.

    Who takes both takes the files first.
    """
    lock = _LOCKS.setdefault((directory, what), asyncio.Lock())
    if lock.locked():
        log.info("gitops.waits_for_its_turn", directory=directory, what=what)
    async with lock:
        yield
