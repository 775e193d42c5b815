"""The root half: takes calls, holds each against the verbs' own description, does them side by side, and says so.

It ends by itself when nobody has called for a minute; who listens for it starts it again with the next call. When the
agent dies every connection ends, what was held is released, and the half ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from homelab_agent.core import journal
from homelab_agent.core.errors import AgentError, describe
from homelab_agent.core.privilege import Verb, VerbRefused
from homelab_agent.privileged import frames
from homelab_agent.privileged.call import ServedCall

IDLE_SECONDS = 60.0
CALL_SECONDS = 10.0
"""How long the frame that a call begins with may take."""
STOP_SECONDS = 30.0
"""How long what is being done, or released, may take once the half is to stop."""
CONNECTIONS_MAX = 64
_CREDENTIALS = struct.Struct("3i")

log = journal.logger("privileged")


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end (unix(7), SO_PEERCRED)."""

    pid: int
    uid: int

    @classmethod
    def of(cls, connection: socket.socket) -> Peer:
        """Ask the kernel."""
        pid, uid, _ = _CREDENTIALS.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        return cls(pid, uid)


class Server:
    """Serves `verbs` to those of `users` (numbers) that connect to `listener`."""

    def __init__(
        self, verbs: Iterable[Verb], listener: socket.socket, *, users: frozenset[int], idle: float = IDLE_SECONDS
    ) -> None:
        """After `idle` seconds without a call `run` returns."""
        self._verbs = {verb.name: verb for verb in verbs}
        self._listener = listener
        self._users = users
        self._idle = idle
        self._stopping = asyncio.Event()
        self._calls: dict[asyncio.Task[None], ServedCall | None] = {}

    def stop(self) -> None:
        """Take no more calls; let go of what is held, and let the rest come to its end."""
        self._stopping.set()

    async def run(self, lifeline: int | None = None) -> None:
        """Serve until `stop`, a minute without calls, or the end of who holds the other end of the pipe `lifeline`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        if lifeline is not None:
            loop.add_reader(lifeline, self.stop)
        self._listener.setblocking(False)  # noqa: FBT003 - the socket API
        try:
            await self._serve()
        finally:
            if lifeline is not None:
                loop.remove_reader(lifeline)
            await self._finish()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        stopping = asyncio.ensure_future(self._stopping.wait())
        accepting = asyncio.ensure_future(loop.sock_accept(self._listener))
        try:
            while not stopping.done():
                idle = None if self._calls else self._idle
                waiting = {accepting, stopping, *self._calls}
                done, _ = await asyncio.wait(waiting, timeout=idle, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    return
                if accepting in done:
                    self._take(accepting.result()[0])
                    accepting = asyncio.ensure_future(loop.sock_accept(self._listener))
        finally:
            stopping.cancel()
            accepting.cancel()

    def _take(self, connection: socket.socket) -> None:
        peer = Peer.of(connection)
        if peer.uid not in self._users or len(self._calls) >= CONNECTIONS_MAX:
            log.warning("privileged.refused", caller_uid=peer.uid, caller_pid=peer.pid)
            connection.close()
            return
        connection.setblocking(False)  # noqa: FBT003 - the socket API
        task = asyncio.create_task(self._attend(connection, peer))
        self._calls[task] = None
        task.add_done_callback(self._calls.pop)

    async def _attend(self, connection: socket.socket, peer: Peer) -> None:
        with connection:
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    said, descriptors = await frames.receive_call(connection)
            except (frames.FrameFaulty, TimeoutError, OSError) as error:
                log.warning("privileged.not_a_call", caller_uid=peer.uid, caller_pid=peer.pid, cause=describe(error))
                return
            try:
                await self._do(ServedCall(connection, descriptors), said, peer)
            finally:
                frames.close(descriptors)

    async def _do(self, call: ServedCall, said: Mapping[str, Any], peer: Peer) -> None:
        begun = asyncio.get_running_loop().time()
        fields: dict[str, Any] = {"caller_uid": peer.uid, "caller_pid": peer.pid}
        self._calls[_current()] = call
        outcome, cause = "ok", ""
        try:
            verb = self._verb(said)
            fields["verb"] = verb.name
            call.arguments = fields["arguments"] = verb.check(_object(said.get("arguments", {})))
            if self._stopping.is_set():
                call.let_go()
            await call.carry_out(verb)
        except asyncio.CancelledError:
            outcome = "ended"
        except AgentError as error:
            outcome = "refused" if isinstance(error, VerbRefused) else "failed"
            cause = describe(error)
            await call.fail(error)
        except Exception as error:  # noqa: BLE001 - whatever a verb raises, the half goes on and the caller is told
            outcome, cause = "failed", describe(error)
            await call.fail(VerbRefused(reason=f"it met something unexpected: {cause}"))
        taken = round(1000 * (asyncio.get_running_loop().time() - begun))
        tell = log.info if outcome == "ok" else log.warning
        tell("privileged.called", **fields, outcome=outcome, cause=cause, duration_ms=taken)

    def _verb(self, said: Mapping[str, Any]) -> Verb:
        name = said.get("verb")
        verb = self._verbs.get(name) if isinstance(name, str) else None
        if verb is None:
            raise VerbRefused(reason=f"there is no verb {str(name)[:40]!r}")
        return verb

    async def _finish(self) -> None:
        """Let go of what is held, wait for what is being done, and end by force what does not come to its end."""
        for call in self._calls.values():
            if call is not None:
                call.let_go()
        if self._calls:
            await asyncio.wait(self._calls, timeout=STOP_SECONDS)
        for task in tuple(self._calls):
            task.cancel()
        with suppress(ValueError):
            await asyncio.wait(self._calls)


def _current() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - it is called in one
    return task


def _object(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise VerbRefused(reason="arguments are an object")
    return value


def adopt(descriptor: int) -> socket.socket:
    """Return the listening socket that was inherited under that number."""
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - the standard library's signature
    return socket.socket(fileno=descriptor)
