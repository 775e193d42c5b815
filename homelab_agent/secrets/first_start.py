"""A new store's first start: it initialises itself; cut short in that it is begun anew, but never one that has data.

OpenBao does what its `initialize` blocks say at its first start alone. Killed in the middle it comes up the next time,
unsealed and healthy, with a part of it done and nobody who could log in; failed in it, it refuses to come up again
(https://openbao.org/docs/configuration/self-init/). Then the store has to go. So that this can never meet one that was
in use, a file says that a store was begun by us, with which secret ids, and that nobody was seen to be let in yet. It
is set aside, and only where OpenBao says itself that it was never initialised, or where it lets in nobody with the very
secret ids that it was to be told last. Where anything else is the matter, a person has to look.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Protocol, TypeAlias

from homelab_agent.core import statefile
from homelab_agent.core.errors import AgentError
from homelab_agent.secrets import installation
from homelab_agent.secrets.bao import AGENT, OPERATOR, Server, read_secret_id
from homelab_agent.secrets.installation import AGENT_SECRET_ID, OPERATOR_SECRET_ID, Installation

UNFINISHED = "store-unfinished"
START_SECONDS = 60.0
_NEVER_INITIALISED = ("self-initialization failed", "cluster already has state")
"""What OpenBao says at each start after a first one that failed, or that was killed while it made its storage: it would
begin with an empty store, for there are no keys in it, and finds that somebody has begun before.
"""

_LOOK_SECONDS = 0.1

Ended: TypeAlias = Callable[[], Awaitable[str]]
"""Tells why a server has ended, "" while it runs."""


class WillNotStart(AgentError):
    """OpenBao does not come up unsealed."""

    repair = "{log}"


class ShutOut(AgentError):
    """OpenBao lets in neither the agent, with {agent}, nor the operator, with {operator}."""

    repair = (
        "put the operator's secret id back into {operator}, then give the same command again; "
        "where the store never held anything: mv {store} {store}.unused"
    )


class Runner(Protocol):
    """How a server is run: by systemd, or as a child for as long as it takes."""

    log: str
    """The command that shows what it printed."""

    def running(self) -> AbstractAsyncContextManager[Ended]:
        """Have it run while the context lasts, started where it does not."""

    async def stop(self) -> None:
        """End it, so that its store can be removed; raises where it is not ours to end."""


class Store:
    """The store of one installation, and who is let in there by the files in its directory of configuration."""

    def __init__(self, at: Installation) -> None:
        self.directory = at.state / "raft"
        self._marker = at.configuration / UNFINISHED
        self._server = Server(at.socket)
        self._agent = at.configuration / AGENT_SECRET_ID
        self._operator = at.configuration / OPERATOR_SECRET_ID

    @property
    def exists(self) -> bool:
        """Whether there is one, finished or not."""
        return (self.directory / "vault.db").exists()

    @property
    def is_finished(self) -> bool:
        """Whether there is one, and somebody was seen to be let in since it was begun."""
        return self.exists and not self._marker.exists()

    def serves(self) -> bool:
        """Whether its server is there, unsealed; blocking."""
        return self._server.is_active

    def lets_agent_in(self) -> bool:
        """Whether its server lets the agent in; blocking. Raises `CannotAsk` where it is not there."""
        return self._server.lets_in(AGENT, self._agent)

    async def finish(self, runner: Runner) -> None:
        """Have the store initialised, and letting the agent in.

        Raises `WillNotStart`, `ShutOut`, what `Runner.stop` and `bao.Server` raise, and OSError.
        """
        for is_last in (False, True):
            if not self.exists:
                await asyncio.to_thread(self._begin)
            async with runner.running() as ended:
                cause = await self._come_up(ended)
                if not cause and await asyncio.to_thread(self._settle):
                    return
            if is_last or not await asyncio.to_thread(self._is_unused, cause):
                if cause:
                    raise WillNotStart(cause=cause, log=runner.log)
                raise ShutOut(agent=self._agent, operator=self._operator, store=self.directory)
            await runner.stop()
            await asyncio.to_thread(self._set_aside)

    def _begin(self) -> None:
        """Write down, before it is there, that what is begun now is ours to set aside."""
        installation.write(self._marker, self._secret_ids(), mode=0o600)

    def _secret_ids(self) -> str:
        """Return what tells these two secret ids from others, and tells nobody what they are: each has 256 bits."""
        both = "\n".join(map(read_secret_id, (self._agent, self._operator)))
        return hashlib.sha256(both.encode()).hexdigest()

    def _is_unused(self, cause: str) -> bool:
        """Whether a store that did not come up, or lets nobody in, can hold nothing; False where that is in doubt."""
        if self.is_finished:
            return False
        if cause:
            return any(said in cause for said in _NEVER_INITIALISED)
        return self._marker.read_text() == self._secret_ids()

    def _set_aside(self) -> None:
        """Make room for a new store. This one is useless, but nobody here can see into it: a person may remove it."""
        self.directory.rename(self.directory.with_name(f"raft.unfinished-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"))

    async def _come_up(self, ended: Ended) -> str:
        """Return "" once it serves, else why it does not."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if cause := await ended():
                return cause
            if await asyncio.to_thread(self.serves):
                return ""
            await asyncio.sleep(_LOOK_SECONDS)
        return f"not within {START_SECONDS:.0f} s"

    def _settle(self) -> bool:
        """See that the agent is let in, by the operator where it was not; return whether it is."""
        is_agent_in = self.lets_agent_in()
        is_operator_in = (not is_agent_in) and self._server.lets_in(OPERATOR, self._operator)
        if not (is_agent_in or is_operator_in):
            return False
        self._marker.unlink(missing_ok=True)  # a store is told these two last, so all else is there
        statefile.sync_directory(self._marker.parent)
        if not is_agent_in:
            self._server.register_agent(self._operator, self._agent)
        return True
