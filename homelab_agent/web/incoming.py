"""aiohttp's request, as a handler sees it (`core.http.Request`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import CIMultiDict

from homelab_agent.core.http import BadRequest, BodyTooLarge, BodyTooSlow, Caller
from homelab_agent.web import audience, router, wire
from homelab_agent.web.limits import Guard

BODY_BYTES_PER_SECOND = 16 * 1024
"""A body that comes at this rate is not cut, however long it is (the rule of Apache's mod_reqtimeout)."""


class Incoming(web.BaseRequest):
    """One request as aiohttp parsed it."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        """Take out what aiohttp says about itself: its and Python's version, for whoever asks."""
        response.headers.pop("Server", None)

    @property
    def guard(self) -> Guard | None:
        """The connection's guard; None when the connection is lost already."""
        return cast("Guard", self.transport.get_protocol()) if self.transport is not None else None

    @property
    def connection(self) -> audience.Connection:
        """How it came."""
        peer, local = self._transport_peername, self._transport_sockname
        if not isinstance(peer, tuple) or not isinstance(local, tuple):
            return audience.Connection(unix=True)
        return audience.Connection(unix=False, peer=peer[0], local=local[0])


class Asked:
    """Implements `core.http.Request`: the decoded path and query, the body bounded in size and time."""

    def __init__(
        self,
        incoming: Incoming,
        headers: list[tuple[str, str]],
        request_id: str,
        caller: Caller,
        *,
        receive_deadline: float,
    ) -> None:
        self._incoming = incoming
        self._deadline = receive_deadline
        self._read = False
        self.method = incoming.method
        self.raw_path, _, self._query = incoming.raw_path.partition("?")
        self.headers: Mapping[str, str] = CIMultiDict(headers)
        self.id = request_id
        self.caller = caller
        self.match: Mapping[str, str] = {}
        self.body_max = 0
        self.nonce = ""
        """What the gate's own probe sent; "" for everybody else."""
        self.is_visit = False
        """Whether the public was let in with it."""

    @property
    def path(self) -> str:
        """The path, decoded; raises `BadRequest`."""
        return router.decode(self.raw_path)

    @property
    def query(self) -> Mapping[str, str]:
        """The query string; of a repeated key the first. Raises `BadRequest`."""
        found: dict[str, str] = {}
        try:
            pairs = parse_qsl(self._query, keep_blank_values=True, errors="strict", max_num_fields=64)
        except ValueError:
            raise BadRequest(cause="the query string cannot be read") from None
        for key, value in pairs:
            found.setdefault(key, value)
        return found

    @property
    def declared(self) -> int | None:
        """The body's size as the client declared it; None if it did not."""
        return self._incoming.content_length

    async def json(self) -> Any:
        """Return the body as JSON; raises `BadRequest`, `BodyTooLarge` or `BodyTooSlow`."""
        return wire.load(b"".join([chunk async for chunk in self.chunks()]))

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; raises `BadRequest`, `BodyTooLarge` or `BodyTooSlow`."""
        if self._read:
            return
        self._read = True
        await self._invite()
        end = asyncio.get_running_loop().time() + self._deadline
        size = 0
        while chunk := await self._receive(end + size / BODY_BYTES_PER_SECOND):
            size += len(chunk)
            if size > self.body_max:
                raise BodyTooLarge(limit=self.body_max)
            yield chunk

    async def _receive(self, end: float) -> bytes:
        content = self._incoming.content
        try:
            if content.is_eof():  # all of it has come: there is no wait that needs an end
                return content.read_nowait()
            async with asyncio.timeout_at(end):
                return await content.readany()
        except TimeoutError:
            raise BodyTooSlow from None
        except web.RequestPayloadError as error:
            raise BadRequest(cause="the body is not well-formed HTTP") from error

    async def _invite(self) -> None:
        """Answer `Expect: 100-continue` (RFC 9110, section 10.1.1): only now is the body wanted."""
        if self.headers.get("Expect", "").lower() == "100-continue" and not self._incoming.content.at_eof():
            await self._incoming.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._incoming.writer.output_size = 0  # aiohttp refuses to send an error after "output"
