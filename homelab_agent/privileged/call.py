"""One call on the half's side: its verb runs while who called is there, and what it says goes to them."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from homelab_agent.core.errors import AgentError
from homelab_agent.core.privilege import Answer, Verb
from homelab_agent.core.process_output import Stream
from homelab_agent.privileged import frames

LINES_MAX = 1000
"""So many lines wait for a caller that does not take them; then the oldest go."""
SEND_SECONDS = 30.0
_ENDED = "ended by who called"


class ServedCall:
    """Implements `core.privilege.Call`."""

    def __init__(self, connection: socket.socket, descriptors: Sequence[int]) -> None:
        self.arguments: Mapping[str, Any] = {}
        self.descriptors = descriptors
        self._connection = connection
        self._lines: deque[bytes] = deque(maxlen=LINES_MAX)
        self._more = asyncio.Event()
        self._released = asyncio.Event()
        self._holds = False

    def say(self, stream: Stream, line: str) -> None:
        """Send a line of output; one that waits too long is dropped."""
        self._lines.append(frames.encode({"line": [stream, line]}))
        self._more.set()

    def let_go(self) -> None:
        """Let what is held be released, also what would be held from now on."""
        self._released.set()

    async def hold(self, answer: Answer) -> None:
        """Give a first answer, and wait until it is let go."""
        self._holds = True
        await self._send(frames.encode({"held": dict(answer)}))
        await self._released.wait()

    async def carry_out(self, verb: Verb) -> None:
        """Run the verb and send its answer; raises what it raises, CancelledError when who called has gone."""
        work = asyncio.ensure_future(verb.run(self))
        writing = asyncio.create_task(self._write_lines())
        gone = asyncio.create_task(self._until_gone())
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and self._holds:
                self.let_go()
                await asyncio.wait({work})
            if not work.done():
                work.cancel(_ENDED)
            answer = await work
        finally:
            for task in (work, writing, gone):
                task.cancel()
            await asyncio.gather(work, writing, gone, return_exceptions=True)
        await self._flush()
        await self._send(frames.encode({"answer": dict(answer)}))

    async def fail(self, error: AgentError) -> None:
        """Send what went wrong, in the words that a person reads."""
        said = {
            "kind": type(error).__name__,
            "message": error.message,
            "cause": error.cause,
            "repair": error.repair,
            "code": int(error.exit_code),
            "fields": {key: str(value) for key, value in error.fields.items()},
        }
        await self._flush()
        await self._send(frames.encode({"error": said}))

    async def _until_gone(self) -> None:
        """Return when who called says anything more, or closes."""
        with suppress(OSError):
            await asyncio.get_running_loop().sock_recv(self._connection, 1)

    async def _write_lines(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            await self._flush()

    async def _flush(self) -> None:
        while self._lines:
            await self._send(self._lines.popleft())

    async def _send(self, frame: bytes) -> None:
        """Send a frame whole; to one that has gone, or does not take it, nothing is sent."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(SEND_SECONDS):
                await asyncio.get_running_loop().sock_sendall(self._connection, frame)
