"""The agent's way to the root half: over the socket that systemd listens on, or over one of its own.

Where there is no unit, the agent listens itself, and the half is its child, which inherits that very socket and is
started when there is something to do. So both are served by the same code, calls run side by side, and a half at rest
costs nothing. It may do what the agent's own user may: as root everything, else nothing that needs another user.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from homelab_agent.core.health import Finding, State
from homelab_agent.core.privilege import Answer, PrivilegedUnavailable, VerbFailed, VerbRefused
from homelab_agent.core.process_output import OnLine
from homelab_agent.privileged import frames
from homelab_agent.privileged.child import Half

SERVICE_SOCKET = Path("/run/homelab-agent/privileged.sock")
"""Made by homelab-agent-privileged.socket."""
SOCKET_NAME = "privileged.sock"
CONNECT_SECONDS = 5.0
INSTALL = "sudo make install (as a service the agent has a root half), or run the agent as root"


class Client:
    """Implements `core.privilege.Privileged`; `run` keeps the child's socket, and ends the child when cancelled."""

    def __init__(self, directory: Path, command: Sequence[str], *, service: Path = SERVICE_SOCKET) -> None:
        """`command` starts the agent's program with its configuration; `directory` is the agent's state."""
        self._service = service
        self._half = Half(directory / SOCKET_NAME, [*command, "privileged", "serve"])

    async def run(self) -> None:
        """Wait until cancelled; then end the child in order."""
        try:
            await asyncio.Event().wait()
        finally:
            await self._half.close()

    async def probe(self) -> Finding:
        """Say what there is for what needs more than the agent may."""
        if await asyncio.to_thread(self._service.is_socket):
            return Finding.ok(f"the root half is asked at {self._service}")
        if os.geteuid() == 0:
            return Finding.ok("the agent is root: its root half is started when it is needed")
        return Finding(State.NOT_AVAILABLE, "there is no root half: nothing is done as another user", INSTALL)

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
        try:
            async with asyncio.timeout(deadline), self._conversation(verb, descriptors, names) as said:
                return await _answer(said, "answer", on_line)
        except TimeoutError:
            raise VerbFailed(message=f"{verb} took longer than {deadline:g} s and was ended.") from None

    @asynccontextmanager
    async def lease(self, verb: str, *, deadline: float, **names: object) -> AsyncIterator[Answer]:
        """Hold what a verb did; see `core.privilege.Privileged`."""
        async with self._conversation(verb, (), names) as said:
            try:
                async with asyncio.timeout(deadline):
                    held = await _answer(said, "held", None)
            except TimeoutError:
                raise VerbFailed(message=f"{verb} took longer than {deadline:g} s and was undone.") from None
            yield held
            said.let_go()
            await _answer(said, "answer", None)

    @asynccontextmanager
    async def _conversation(
        self, verb: str, descriptors: Sequence[int], arguments: Mapping[str, object]
    ) -> AsyncIterator[_Conversation]:
        async with AsyncExitStack() as stack:
            connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            connection.setblocking(False)  # noqa: FBT003 - the socket API
            try:
                path = self._service
                if not await asyncio.to_thread(path.is_socket):
                    path = await stack.enter_async_context(self._half.needed())
                async with asyncio.timeout(CONNECT_SECONDS):
                    await asyncio.get_running_loop().sock_connect(connection, str(path))
                rest = frames.send_call(connection, {"verb": verb, "arguments": arguments}, descriptors)
                reader, writer = await asyncio.open_unix_connection(sock=connection, limit=frames.LONGEST)
            except OSError as error:  # TimeoutError too
                raise PrivilegedUnavailable(cause=error) from error
            try:
                writer.write(rest)
                yield _Conversation(verb, reader, writer)
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()


class _Conversation:
    """What comes over one connection."""

    def __init__(self, verb: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.verb = verb
        self._reader = reader
        self._writer = writer

    def let_go(self) -> None:
        """Let what is held be released."""
        with suppress(OSError):  # not a byte: written to a half that has just ended, it would cost its last answer
            self._writer.write_eof()

    async def next(self) -> dict[str, Any]:
        """Return the next frame; raises `VerbFailed` when there is none."""
        try:
            return await frames.receive(self._reader)
        except (asyncio.IncompleteReadError, OSError, frames.FrameFaulty) as error:
            message = f"The root half ended while it did {self.verb}."
            raise VerbFailed(message=message, cause="it did not answer", repair="journalctl -e") from error


async def _answer(conversation: _Conversation, kind: str, on_line: OnLine | None) -> Answer:
    """Return the frame of that kind; give lines on. Raises what the half says went wrong."""
    while True:
        match await conversation.next():
            case {"line": [("stdout" | "stderr") as stream, str(line)]}:
                if on_line is not None:
                    on_line(stream, line)
            case {"error": {"kind": "VerbRefused", "fields": {"reason": str(reason)}}}:
                raise VerbRefused(reason=reason)
            case {"error": {"message": str(message), "cause": str(cause), "repair": str(repair), "code": int(code)}}:
                raise VerbFailed(message=message, cause=cause, repair=repair, code=code)
            case {"answer": dict(answer)} if kind == "answer":
                return answer
            case {"held": dict(answer)} if kind == "held":
                return answer
            case {"held": _}:
                continue
            case other:
                message = f"The root half answered {conversation.verb} with something else: {', '.join(other)}"
                raise VerbFailed(message=message)
