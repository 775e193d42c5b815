"""One call on the agent's side: the request, what the half says to it, and its end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal, Protocol

from homelab_agent.core.errors import describe
from homelab_agent.core.privilege import (
    DESCRIPTORS_MAX,
    GRACE_SECONDS,
    Answer,
    PrivilegedUnavailable,
    VerbCutShort,
    VerbFailed,
    VerbRefused,
)
from homelab_agent.core.process_output import OnLine
from homelab_agent.privileged import frames

SAME_VERSION = "systemctl restart homelab-agent-privileged homelab-agent"


class Way(Protocol):
    """A way to the root half."""

    async def connect(self) -> socket.socket | None:
        """Return a new connection, None where it is no way for us; raises `PrivilegedUnavailable`."""

    def lost(self) -> PrivilegedUnavailable:
        """Return why a connection ended before anything was begun."""


class Conversation:
    """What is said over one connection, which is somebody else's to close."""

    def __init__(self, verb: str, on_line: OnLine | None) -> None:
        self.verb = verb
        self.is_over = False
        self._on_line = on_line
        self.has_begun = False
        self._is_let_go = False

    async def begin(
        self, way: Way, connection: socket.socket, arguments: Mapping[str, object], descriptors: Sequence[int]
    ) -> None:
        """Send the request. Raises `PrivilegedUnavailable`; `VerbRefused` for more than a request may hold."""
        self._way = way
        self._connection = connection
        if len(descriptors) > DESCRIPTORS_MAX:
            raise VerbRefused(reason=f"{len(descriptors)} descriptors are more than {DESCRIPTORS_MAX}")
        request = {"verb": self.verb, "arguments": arguments}
        try:
            await frames.send_request(connection, request, descriptors)
        except (TypeError, ValueError) as error:
            raise VerbRefused(reason=describe(error)) from error
        except OSError as error:  # what it said before it closed, if anything, can still be read
            if not isinstance(error, ConnectionError):
                raise PrivilegedUnavailable(cause=error) from error

    async def until(self, kind: Literal["held", "answer"]) -> Answer:
        """Return the first message of that kind; lines before it are given on.

        Raises what the half says was wrong; when it says nothing more, `VerbCutShort`, or `PrivilegedUnavailable`
        where nothing was begun.
        """
        while True:
            match message := await self._next():
                case {"ready": _}:
                    self.has_begun = True
                    await self._go()
                case {"line": [("stdout" | "stderr") as stream, str(line)]}:
                    if self._on_line is not None:
                        self._on_line(stream, line)
                case {"held": dict(held)} if kind == "held":
                    return held
                case {"answer": dict(answer)} if kind == "answer":
                    self.is_over = True
                    return answer
                case _:
                    self.is_over = True
                    raise _meant(self.verb, message)

    async def _go(self) -> None:
        with suppress(OSError):  # that it has ended is seen where its next words are awaited
            await asyncio.get_running_loop().sock_sendall(self._connection, frames.GO)

    async def _next(self) -> dict[str, Any]:
        try:
            return await frames.receive(self._connection)
        except (frames.NotAFrame, OSError) as error:
            self.is_over = True
            if not self.has_begun:
                raise self._way.lost() from error
            message = f"The root half ended while it did {self.verb}."
            raise VerbCutShort(message=message, cause="how far it came is not known") from error

    def let_go(self) -> None:
        """Say that no more is wanted: what is held is released, what holds nothing is cancelled."""
        self._is_let_go = True
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    async def end(self) -> None:
        """Let go, and return when the half has ended what it did, or takes too long for that."""
        if self.is_over or self._is_let_go or not self.has_begun:
            return
        self.let_go()
        loop = asyncio.get_running_loop()
        with suppress(OSError):  # TimeoutError too
            async with asyncio.timeout(GRACE_SECONDS):
                while await loop.sock_recv(self._connection, frames.REQUEST_MAX):
                    pass

    async def released(self, rest: asyncio.Task[Answer], seconds: float) -> None:
        """Let go, and return when the half has released what it held; raises what went wrong with that."""
        self.let_go()
        try:
            async with asyncio.timeout(seconds):
                await rest
        except TimeoutError:
            message = f"The root half did not release within {seconds:g} s what it holds for {self.verb}."
            raise VerbFailed(message=message, cause="it goes on trying") from None

    def late(self, seconds: float) -> VerbFailed | PrivilegedUnavailable:
        """Return what it means that it was not done in so many seconds."""
        if self.has_begun:
            return VerbFailed(message=f"{self.verb} was not done within {seconds:g} s and was ended.")
        return PrivilegedUnavailable(cause=f"{self.verb} did not begin within {seconds:g} s")


def _meant(verb: str, message: Mapping[str, Any]) -> VerbRefused | VerbFailed | PrivilegedUnavailable:
    """Return the error that the half's last word is."""
    match message:
        case {"refused": str(reason)}:
            return VerbRefused(reason=reason)
        case {"unavailable": {"message": str(why), "cause": str(cause), "repair": str(repair)}}:
            return PrivilegedUnavailable(cause=f"{why} ({cause})" if cause else why, repair=repair)
        case {"failed": {"message": str(why), "cause": str(cause), "repair": str(repair), "code": int(code)}}:
            kind = VerbCutShort if message["failed"].get("cut_short") else VerbFailed
            return kind(message=why, cause=cause, repair=repair, code=code)
    said = ", ".join(message)
    return VerbFailed(message=f"The root half does not do {verb} as it is asked.", cause=said, repair=SAME_VERSION)


@contextmanager
def cut_short_by(rest: asyncio.Task[Answer], talk: Conversation) -> Iterator[None]:
    """Cancel what is in the context when `rest` ends before it, and raise then what `rest` raised: a lease is lost.

    As `asyncio.timeout` does, so that somebody else's cancellation stays one.
    """
    body = asyncio.current_task()
    assert body is not None  # noqa: S101 - it is entered in one
    cancelling = body.cancelling()
    is_lost = is_over = False

    def end(_: asyncio.Task[Answer]) -> None:
        nonlocal is_lost
        if not is_over:
            is_lost = True
            body.cancel()

    rest.add_done_callback(end)
    try:
        try:
            yield
        finally:
            is_over = True
            left = body.uncancel() if is_lost else 0
    except asyncio.CancelledError:
        if not is_lost or left > cancelling:
            raise
    if is_lost:
        rest.result()
        raise VerbFailed(message=f"{talk.verb} let go before it was asked to.")
