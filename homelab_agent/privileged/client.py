"""The agent's way to the root half: its unit where there is one for us, else a child of the agent's own.

Who is root needs nobody else, and always asks a child. The child of an agent that is not root can do what needs no
other user; a verb that needs one says so (`core.privilege.user`).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from homelab_agent.core.errors import AgentError
from homelab_agent.core.health import Finding, State
from homelab_agent.core.privilege import UNIT_SOCKET, Answer, PrivilegedUnavailable, VerbFailed, VerbRefused
from homelab_agent.core.process_output import OnLine
from homelab_agent.privileged import unit
from homelab_agent.privileged.child import Child
from homelab_agent.privileged.conversation import Conversation, Way, cut_short_by

INSTALL = "sudo make install (as a service the agent has a root half), or run the agent as root"


SOCKET_NAME = "privileged.sock"
PROBE_SECONDS = 8.0


class Client:
    """Implements `core.privilege.Privileged`; its child can be asked while `run` runs."""

    def __init__(
        self,
        directory: Path,
        command: Sequence[str | Path],
        *,
        service: Path = UNIT_SOCKET,
        withheld: Collection[str] = (),
    ) -> None:
        """`command` is the agent's program with its configuration; `directory` is the agent's state.

        A half of our own is not given the variables that are `withheld`.
        """
        self._unit = unit.Unit(service)
        self._child = Child(directory / SOCKET_NAME, [*command, "privileged", "serve"], withheld=withheld)
        self._trouble: PrivilegedUnavailable | None = None

    async def run(self) -> None:
        """Listen, and have a half there whenever it is asked; when cancelled, end it in order."""
        await self._child.run()

    async def probe(self) -> Finding:
        """Say what there is for what needs more than the agent may; ask it only where it was not available before.

        To ask it for the sake of an answer would start it.
        """
        if self._trouble is not None and not await self.answers():
            return Finding.of(self._trouble)
        if os.geteuid() == 0:
            return Finding.ok("the agent is root: its root half is started when it is needed")
        if await self._unit.is_there():
            return Finding.ok(f"the root half is asked at {self._unit.path}")
        detail = f"there is no root half: nothing is done as another user than number {os.geteuid()}"
        return Finding(State.NOT_AVAILABLE, detail, INSTALL)

    async def answers(self) -> bool:
        """Return whether it is there to be asked."""
        with suppress(AgentError):
            await self.call("anything", deadline=PROBE_SECONDS)
        return self._trouble is None

    async def call(
        self,
        verb: str,
        *,
        deadline: float,
        descriptors: Sequence[int] = (),
        on_line: OnLine | None = None,
        **names: object,
    ) -> Answer:
        """Return what a verb answers; see `core.privilege.Privileged`."""
        talk = Conversation(verb, on_line)
        try:
            async with asyncio.timeout(deadline), self._begun(talk, names, descriptors):
                return await talk.until("answer")
        except TimeoutError:
            raise self._late(talk, deadline) from None

    @asynccontextmanager
    async def lease(
        self,
        verb: str,
        *,
        deadline: float,
        descriptors: Sequence[int] = (),
        on_line: OnLine | None = None,
        **names: object,
    ) -> AsyncIterator[Answer]:
        """Hold what a verb did; see `core.privilege.Privileged`."""
        talk = Conversation(verb, on_line)
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(deadline):
                    await stack.enter_async_context(self._begun(talk, names, descriptors))
                    held = await talk.until("held")
            except TimeoutError:
                raise self._late(talk, deadline) from None
            rest = asyncio.create_task(talk.until("answer"), name=f"lease of {verb}")
            try:
                with cut_short_by(rest, talk):
                    yield held
            except BaseException:
                with suppress(AgentError):  # what went wrong first is what counts; the half's own log has the rest
                    await talk.released(rest, deadline)
                raise
            await talk.released(rest, deadline)

    @asynccontextmanager
    async def _begun(
        self, talk: Conversation, arguments: Mapping[str, object], descriptors: Sequence[int]
    ) -> AsyncIterator[None]:
        """Ask for it; when the context fails, have the half end what it does before that goes on."""
        try:
            way, connection = await self._connected()
            with connection:
                await talk.begin(way, connection, arguments, descriptors)
                try:
                    yield
                except BaseException:
                    await talk.end()
                    raise
        except PrivilegedUnavailable as error:
            self._trouble = error
            raise
        except (VerbFailed, VerbRefused):
            self._trouble = None
            raise
        self._trouble = None

    async def _connected(self) -> tuple[Way, socket.socket]:
        ways: Sequence[Way] = [self._child] if os.geteuid() == 0 else [self._unit, self._child]
        for way in ways:
            if (connection := await way.connect()) is not None:
                return way, connection
        raise PrivilegedUnavailable(cause="there is no way to it", repair=INSTALL)

    def _late(self, talk: Conversation, seconds: float) -> AgentError:
        error = talk.late(seconds)
        if isinstance(error, PrivilegedUnavailable):
            self._trouble = error
        return error
