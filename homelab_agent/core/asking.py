"""One question to a service over the network: whether a page answers, whether a port takes connections.

Nothing is followed, nothing is kept: each question is a connection of its own.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp.connector import Connection

from homelab_agent.core.errors import describe

BODY_BYTES_MAX = 1024 * 1024
"""So much of a page is searched for a text."""
_AGENT = "homelab-agent"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: `detail` in words, a page's HTTP `status`, and until when its certificate is valid."""

    ok: bool
    detail: str
    status: int | None = None
    valid_until: datetime | None = None


async def page(url: str, *, within: float, tls: ssl.SSLContext | bool = True, text: str = "") -> Answer:
    """GET a page: 200 to 399 is good, where `text` is somewhere in it; a redirection is not followed.

    `within` is in seconds. `tls` says who is believed over https; without a certificate that is believed there is no
    good answer, and with False all are, but then nothing is known of their time.
    """
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls, force_close=True),
                timeout=aiohttp.ClientTimeout(total=within),
                headers={"User-Agent": _AGENT},
                response_class=_Certified,
            ) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            ok, detail = 200 <= answer.status < 400, f"it answers {answer.status}"
            if ok and text and text.encode() not in await _start_of(answer):
                ok, detail = False, f"{detail}, and {text!r} is not in it"
            until = answer.valid_until if isinstance(answer, _Certified) else None
            return Answer(ok, detail, answer.status, until)
    except TimeoutError:
        return Answer(ok=False, detail=f"no answer within {within:g} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Answer(ok=False, detail=_words(error))


async def port(target: str, *, within: float, tls: ssl.SSLContext | None = None) -> Answer:
    """Connect to "host:port", and with `tls` agree on a certificate; `within` is in seconds."""
    host, _, number = target.rpartition(":")
    host = host.strip("[]")
    try:
        async with asyncio.timeout(within):
            _, writer = await asyncio.open_connection(host, int(number), ssl=tls)
    except TimeoutError:
        return Answer(ok=False, detail=f"no connection within {within:g} s")
    except (OSError, ValueError, OverflowError) as error:
        return Answer(ok=False, detail=_words(error))
    until = _valid_until(writer.get_extra_info("peercert"))
    writer.transport.abort()
    return Answer(ok=True, detail="it takes connections", valid_until=until)


class _Certified(aiohttp.ClientResponse):
    """An answer that remembers the certificate: a connection that has said all may be gone before anybody asks."""

    valid_until: datetime | None = None

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        if connection.transport is not None:
            self.valid_until = _valid_until(connection.transport.get_extra_info("peercert"))
        return await super().start(connection)


async def _start_of(answer: aiohttp.ClientResponse) -> bytes:
    kept = bytearray()
    async for part in answer.content.iter_chunked(64 * 1024):
        kept += part
        if len(kept) >= BODY_BYTES_MAX:
            break
    return bytes(kept)


def _words(error: Exception) -> str:
    """Return what is wrong, without the kernel's number of it."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None or isinstance(error, ssl.SSLError | aiohttp.ClientSSLError | socket.gaierror):
        return describe(error)
    return os.strerror(number).lower()


def _valid_until(certificate: Mapping[str, Any] | None) -> datetime | None:
    """Return until when a certificate, as `SSLSocket.getpeercert` gives it, is valid; None where there is none."""
    if not certificate:
        return None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
