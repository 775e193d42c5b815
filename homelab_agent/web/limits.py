"""What one connection may cost: the deadlines and caps that aiohttp does not have.

A `Guard` stands between the transport and aiohttp's protocol and sees every byte come and every stall of what
goes. It knows hardly more of HTTP than the blank line: the application tells it when a request begins and ends;
what comes in between is a head. It tells it, too, when a request is the public's: what that gets ends with the door.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

_END_OF_HEAD = b"\r\n\r\n"
_DISCARD = struct.pack("ii", 1, 0)
"""SO_LINGER on, for no seconds: a socket that is closed forgets what it has not sent (socket(7))."""
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 5\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Limits:
    """`receive_deadline` in seconds: for a head, for taking what was sent, and for sitting idle."""

    connections: int
    receive_deadline: float
    head_bytes: int = 32 * 1024

    @property
    def public_connections(self) -> int:
        """How many of them the public may use at once: it keeps nobody else out, nor the gate's own probe."""
        return self.connections * 3 // 4


class Guard(asyncio.Protocol):
    """One connection. It is cut, not closed: a client that drips does not get to drip on."""

    __slots__ = (
        "_due",
        "_guards",
        "_head",
        "_inner",
        "_limits",
        "_loop",
        "_make",
        "_stall",
        "_tail",
        "_timer",
        "_transport",
        "_was_public",
        "is_last",
        "is_public",
        "made_at",
        "over",
    )

    def __init__(self, make: Callable[[], asyncio.Protocol], guards: set[Guard], limits: Limits) -> None:
        self._loop = asyncio.get_running_loop()
        self._make = make
        self._guards = guards
        self._limits = limits
        self._inner: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._head: int | None = 0
        self._tail = b""
        self._was_public = False
        self.made_at: float | None = self._loop.time()
        """When the connection was made, on the loop's clock; None once its first request has begun."""
        self.is_public = False
        """Whether the request under way is the public's, or the last one was and nothing has come since."""
        self.is_last = False
        """Whether the connection ends with the request under way."""
        self.over: asyncio.Future[None] = self._loop.create_future()
        """Done when the connection is lost or the server stops: what streams should end."""

    def begin(self) -> None:
        """Take the head as complete; the body and the answer have deadlines of their own."""
        self._head = None
        self.made_at = None
        self.is_public = False
        self._disarm()

    def admit_public(self) -> None:
        """Take the request under way as the public's; raises ConnectionResetError if it has its share, and says so."""
        others = sum(guard.is_public for guard in self._guards if guard is not self)
        self.is_public = self._was_public = True
        if others >= self._limits.public_connections:
            self._turn_away()
            raise ConnectionResetError

    def end(self, *, body_complete: bool) -> None:
        """Take what comes now as the next head, unless the body of a refused request is still coming."""
        self._head = 0 if body_complete else None
        self._tail = b""
        self._arm()
        if self.is_last and body_complete and self._transport is not None:
            self._transport.close()

    def shut_out(self) -> None:
        """Cut what the public is answered; end the connection if it used it, once what others are answered is sent.

        A head that is coming is let come: whose it is decides when it is complete.
        """
        transport = self._transport
        if transport is None or not self._was_public:
            return
        if self.is_public:
            with contextlib.suppress(OSError):  # the other end may have ended it
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD)
            transport.abort()
        elif self._head != 0:  # a request is under way, or its head comes
            self.is_last = True
        else:
            transport.close()

    def finish(self) -> None:
        """Tell what streams over this connection to end."""
        if not self.over.done():
            self.over.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the connection, or answer at once that there are too many."""
        self._transport = cast("asyncio.Transport", transport)
        if len(self._guards) >= self._limits.connections:
            self._turn_away()
            return
        self._guards.add(self)
        self._inner = self._make()
        self._arm()
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head, and give it on."""
        if self._inner is None:
            return
        if self._head is not None:
            if self._head > self._limits.head_bytes:
                self._cut()
                return
            if self._head == 0:
                self.is_public = False
                self._arm()
            self._count_head(self._head, data)
        self._inner.data_received(data)

    def _count_head(self, size: int, data: bytes) -> None:
        """Count until the blank line: what follows belongs to a body, though the request has not begun yet."""
        if _END_OF_HEAD in self._tail + data:
            self._head = None
        else:
            self._head = size + len(data)
            self._tail = (self._tail + data)[-len(_END_OF_HEAD) :]

    def eof_received(self) -> bool | None:
        """Give on that the client sends no more."""
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        """Give a client that does not take what is sent as long as for a head."""
        self._stall = self._loop.call_later(self._limits.receive_deadline, self._cut)
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Go on: the client takes it again."""
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._guards.discard(self)
        for timer in (self._timer, self._stall):
            if timer is not None:
                timer.cancel()
        self.finish()
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def _turn_away(self) -> None:
        """Say that there are too many, and close: not even to be dropped is the rest of a request read."""
        if self._transport is not None:
            self._transport.write(_FULL)
            self._transport.close()

    def _arm(self) -> None:
        """Cut the connection after the deadline, if it is not disarmed or armed anew before."""
        self._due = self._loop.time() + self._limits.receive_deadline
        if self._timer is None:
            self._timer = self._loop.call_at(self._due, self._look)

    def _disarm(self) -> None:
        self._due = None

    def _look(self) -> None:
        """See whether the deadline is over: one timer lasts for many requests, each of which only moves it."""
        self._timer = None
        if self._due is None:
            return
        if self._loop.time() >= self._due:
            self._cut()
        else:
            self._timer = self._loop.call_at(self._due, self._look)

    def _cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()
