"""One connection on the half's side: what is asked is held against the verbs, and done while who asks is there."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from homelab_agent.core import journal
from homelab_agent.core.errors import AgentError, Exit, describe
from homelab_agent.core.privilege import Answer, Verb, VerbRefused
from homelab_agent.privileged import frames
from homelab_agent.privileged.call import ServedCall

REQUEST_SECONDS = 5.0
"""How long a request may take to arrive, and the go-ahead after it."""
FLUSH_SECONDS = 5.0
"""How long the last word may take to be read."""

Verbs: TypeAlias = Callable[[], Awaitable[Mapping[str, Verb]]]
"""Gives the verbs that there are now, by name; an `AgentError` says why there are none."""

_CREDENTIALS = struct.Struct("3i")
_LOG = "journalctl -e -u homelab-agent-privileged -u homelab-agent"
_SHOWN_MAX = 40
_WORDS_MAX = 4000

log = journal.logger("privileged")


@dataclass(frozen=True, slots=True)
class Caller:
    """The process at the other end, and whom it ran as when it connected (unix(7), SO_PEERCRED)."""

    pid: int
    uid: int

    @classmethod
    def of(cls, connection: socket.socket) -> Caller:
        """Ask the kernel."""
        known = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(known)
        return cls(pid, uid)

    @property
    def fields(self) -> dict[str, int]:
        """What the journal is told of it."""
        return {"caller_uid": self.uid, "caller_pid": self.pid}


@dataclass(frozen=True, slots=True)
class _End:
    """How a call ended: in a word for the journal, in a frame for who called, and why."""

    outcome: str
    frame: bytes
    cause: str = ""
    error: BaseException | None = None


class Exchange:
    """One connection, from the request to the last word."""

    def __init__(self, connection: socket.socket, caller: Caller, verbs: Verbs) -> None:
        self._connection = connection
        self._caller = caller
        self._verbs = verbs
        self._call: ServedCall | None = None
        self._work: asyncio.Future[Answer] | None = None
        self._is_let_go = False

    def let_go(self) -> bool:
        """Have the verb release what it holds, cancel one that holds nothing; return whether it had begun."""
        if self._call is None or self._work is None:
            return False
        if not self._is_let_go:
            self._is_let_go = True
            self._call.let_go()
            if not self._call.holds:
                self._work.cancel()
        return True

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    async def run(self) -> None:
        """Take the request and answer it; may be cancelled until the verb has begun."""
        with ExitStack() as held:
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    request, descriptors = await frames.receive_request(self._connection, held)
            except (frames.NotAFrame, OSError) as error:  # TimeoutError too
                log.warning("privileged.not_a_call", **self._caller.fields, cause=describe(error))
                return
            reader, writer = await asyncio.open_unix_connection(sock=self._connection)
            try:
                await self._answer(request, descriptors, reader, writer)
            finally:
                await _close(writer)

    async def _answer(
        self,
        request: Mapping[str, Any],
        descriptors: Sequence[int],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        begun = asyncio.get_running_loop().time()
        known: dict[str, Any] = {}
        try:
            verb = _verb(await self._verbs(), request.get("verb"))
            known["verb"] = verb.name
            known["arguments"] = arguments = verb.check(_arguments(request))
            writer.write(frames.encode({"ready": {}}))
            if await _may_go(reader):
                end = await self._do(verb, ServedCall(arguments, descriptors, writer), reader)
            else:
                end = _End("not begun", b"")
        except VerbRefused as error:
            end = _refused(error)
        except Exception as error:  # noqa: BLE001 - why there are no verbs, whatever it is, is for who called
            end = _End("unavailable", frames.encode({"unavailable": _words(error)}), describe(error), error)
        if not writer.is_closing():
            writer.write(end.frame)
        taken = round(1000 * (asyncio.get_running_loop().time() - begun))
        tell = log.info if end.outcome in {"ok", "let go", "not begun"} else log.warning
        told = {**self._caller.fields, **known, "outcome": end.outcome, "cause": end.cause, "duration_ms": taken}
        tell("privileged.called", **told, exc_info=None if isinstance(end.error, AgentError) else end.error)

    async def _do(self, verb: Verb, call: ServedCall, reader: asyncio.StreamReader) -> _End:
        """Run the verb while who called is there; return how it ended when it has, also after they have gone."""

        async def work() -> Answer:
            return await verb.run(call)

        self._call, self._work = call, asyncio.create_task(work(), name=f"verb {verb.name}")
        gone = asyncio.create_task(_until_gone(reader))
        await asyncio.wait({self._work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not self._work.done():
            self.let_go()
        await asyncio.wait({self._work})
        gone.cancel()
        await asyncio.wait({gone})
        call.tell_left_out()
        return _end(verb, self._work)


def _verb(verbs: Mapping[str, Verb], name: object) -> Verb:
    verb = verbs.get(name) if isinstance(name, str) else None
    if verb is None:
        raise VerbRefused(reason=f"there is no verb {str(name)[:_SHOWN_MAX]!r}")
    return verb


def _arguments(request: Mapping[str, Any]) -> Mapping[str, object]:
    arguments = request.get("arguments", {})
    if not isinstance(arguments, dict) or request.keys() - {"verb", "arguments"}:
        raise VerbRefused(reason="a call is a verb and its arguments")
    return arguments


def _end(verb: Verb, work: asyncio.Future[Answer]) -> _End:
    """Return how a verb that has ended did."""
    if work.cancelled():
        message = f"{verb.name} was ended before it was done."
        words = {"message": message, "cause": "", "repair": "", "code": Exit.FAILED, "cut_short": True}
        return _End("let go", frames.encode({"failed": words}))
    error = work.exception()
    if error is None:
        try:
            return _End("ok", frames.encode({"answer": dict(work.result())}))
        except (TypeError, ValueError) as wrong:
            error = wrong
    if isinstance(error, VerbRefused):
        return _refused(error)
    return _End("failed", frames.encode({"failed": _words(error)}), describe(error), error)


def _refused(error: VerbRefused) -> _End:
    return _End("refused", frames.encode({"refused": error.fields["reason"]}), describe(error))


def _words(error: BaseException) -> dict[str, str | int]:
    """Return an error as a person is to read it elsewhere."""
    if not isinstance(error, AgentError):
        message = "The root half met something that it did not expect."
        return {"message": message, "cause": describe(error)[:_WORDS_MAX], "repair": _LOG, "code": Exit.FAILED}
    said = {"message": error.message, "cause": error.cause, "repair": error.repair}
    return {**{name: text[:_WORDS_MAX] for name, text in said.items()}, "code": error.exit_code}


async def _may_go(reader: asyncio.StreamReader) -> bool:
    """Return whether who called is there still and wants it done."""
    with suppress(OSError):  # TimeoutError too
        async with asyncio.timeout(REQUEST_SECONDS):
            return await reader.read(1) == frames.GO
    return False


async def _until_gone(reader: asyncio.StreamReader) -> None:
    """Return when who called wants no more: has closed, or says something though all is said."""
    with suppress(OSError):
        await reader.read(1)


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close once everything was taken, or takes too long."""
    with suppress(OSError):  # TimeoutError too
        async with asyncio.timeout(FLUSH_SECONDS):
            writer.transport.set_write_buffer_limits(0)
            await writer.drain()
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()
