"""aiohttp's server at the agent's sockets, each connection behind a guard."""

from __future__ import annotations

import asyncio
import socket
from logging import Logger
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from homelab_agent.web import application
from homelab_agent.web.incoming import Incoming
from homelab_agent.web.limits import Guard, Limits
from homelab_agent.web.sockets import Listeners

_LINE_BYTES = 8190
_HEADERS = 100
_LINGER_SECONDS = 2.0
"""How long the rest of a refused body is read and dropped, so that the client gets to see the refusal."""
_FIRST_SECONDS = 1.0
"""So soon after it has connected a client has said what it wants; the server's stop waits for it as long."""
_LOOK_SECONDS = 0.01
_NEVER_IDLE_SECONDS = 86_400.0
"""For aiohttp, which counts idle time from the wrong moment: the guard does that."""


class _Connection(web.RequestHandler):
    """aiohttp's protocol; what it cannot parse is answered as every other problem is."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to what could not be parsed."""
        if request.writer.output_size > 0:
            raise ConnectionError(message)
        return application.malformed(431 if isinstance(exc, LineTooLong) else status)


class _Connections(web.Server):
    """All connections; makes the protocol of each."""

    def __call__(self) -> web.RequestHandler:
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=cast("Logger", None),  # none; aiohttp's own annotation has it wrong
            keepalive_timeout=_NEVER_IDLE_SECONDS,
            max_line_size=_LINE_BYTES,
            max_field_size=_LINE_BYTES,
            max_headers=_HEADERS,
            lingering_time=_LINGER_SECONDS,
            auto_decompress=False,
        )


class Server:
    """Serves an application until it is cancelled; can be run again as long as it was not told to stop."""

    def __init__(
        self, app: application.Application, listeners: Listeners, limits: Limits, *, drain_deadline: float
    ) -> None:
        self._application = app
        self._listeners = listeners
        self._limits = limits
        self._drain_deadline = drain_deadline
        self._guards: list[set[Guard]] = []
        self.serving = False

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return sum(len(guards) for guards in self._guards)

    def shut_out(self) -> None:
        """End at once what the public is answered, and the connections that it used."""
        for guards in self._guards:
            for guard in guards:
                guard.shut_out()

    async def run(self) -> None:
        """Accept connections; cancelled, let what is under way finish, and give up the sockets."""
        connections = _Connections(self._application, request_factory=_request)
        accepting: list[asyncio.Server] = []
        try:
            await self._application.prepare()
            for listener in self._listeners.sockets:
                accepting.append(await self._accept(listener, connections))  # noqa: PERF401 - closed if one fails
            self.serving = True
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            await asyncio.to_thread(self._listeners.close)
            raise
        finally:
            self.serving = False
            for one in accepting:
                _take_no_more(one)
            await self._hear()
            for one in accepting:
                one.close()
            await self._drain(connections)

    async def _accept(self, listener: socket.socket, connections: _Connections) -> asyncio.Server:
        """Accept on a copy of the socket: the original stays open, and nobody is refused during a restart.

        Each socket has its own cap: however many come over TCP, the command line still gets through.
        """
        guards: set[Guard] = set()
        self._guards.append(guards)

        def connect() -> Guard:
            return Guard(connections, guards, self._limits)

        return await asyncio.get_running_loop().create_server(connect, sock=listener.dup())

    async def _hear(self) -> None:
        """Let who has just come say what they want: their connection was taken, so the next agent does not get it."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)  # also for what was accepted and has no guard yet
            since = loop.time() - _FIRST_SECONDS
            if not any(since < (guard.made_at or 0) for guards in self._guards for guard in guards):
                return

    async def _drain(self, connections: _Connections) -> None:
        connections.pre_shutdown()
        for guards in self._guards:
            for guard in guards:
                guard.finish()
        await connections.shutdown(self._drain_deadline)
        self._guards.clear()


def _take_no_more(accepting: asyncio.Server) -> None:
    """Leave who connects from now on in the socket's queue, for the next agent.

    Not yet `close`: asyncio then drops whom it has accepted in this very moment.
    """
    for listener in accepting.sockets:
        asyncio.get_running_loop().remove_reader(listener.fileno())


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> Incoming:
    """Make the request; the parameters are aiohttp's own types, which it does not export."""
    return Incoming(message, payload, protocol, writer, task, asyncio.get_running_loop())
