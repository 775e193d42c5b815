"""A visitor from outside: what somebody on the internet meets who comes to the public name.

That this host's own resolver knows the name proves nothing, for it may lead there inside the tailnet; so a public
resolver is asked, over HTTPS (RFC 8484). Then one request is made to the address that it names, over TLS under the
public name, as a sender of webhooks would make it. It is no delivery but a method that the path does not take, with a
nonce: who echoes that is this agent and nobody else.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from homelab_agent.core.door import PROBE_HEADER, TAILNET_RANGES
from homelab_agent.core.errors import AgentError, describe
from homelab_agent.gate import body, dns

PATIENCE_SECONDS = 10.0
"""For the resolver, and for each address: the first TLS handshake may wait for a certificate."""

ADDRESSES_MAX = 3

_MESSAGE_BYTES = 64 * 1024
_DNS_MESSAGE = "application/dns-message"
_AGENT = {"User-Agent": "homelab-agent"}


class NotResolved(AgentError):
    """{resolver} cannot say where {name} is."""

    repair = "[gate] resolver = another one, as https://dns.quad9.net/dns-query"


@dataclass(frozen=True, slots=True)
class Visit:
    """What a visitor met; `alive` is None when that was not found out, which is no fault of the public way."""

    alive: bool | None
    detail: str


class Visitor:
    """Asks `resolver`, the URL of a DNS-over-HTTPS server, where a name is, and trusts the system's authorities.

    Each of its steps has `patience` seconds.
    """

    def __init__(self, resolver: str, *, patience: float = PATIENCE_SECONDS) -> None:
        self._resolver = resolver.removesuffix("{?dns}")
        self._patience = patience
        self._tls: ssl.SSLContext | None = None

    async def visit(self, url: str, nonce: str) -> Visit:
        """Come to `url` once with `nonce`; raises nothing.

        Of several addresses one that leads here is enough, as it is for a sender that tries them one after the other.
        """
        asked = URL(url)
        name = asked.host or ""
        if self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)  # it reads files
        try:
            addresses = await self._resolve(name, self._tls)
        except NotResolved as error:
            return Visit(None, str(error))
        if not addresses:
            return Visit(alive=False, detail=f"{name} is not known on the internet")
        outside = [one for one in addresses if not any(one in network for network in TAILNET_RANGES)]
        if not outside:
            return Visit(None, f"{self._resolver} leads into the tailnet: no public resolver")
        met = []
        for address in outside[:ADDRESSES_MAX]:
            trouble = await self._call(asked, address, nonce, self._tls)
            if not trouble:
                return Visit(alive=True, detail=f"{name} leads here, by {address}")
            met.append(f"{address}: {trouble}")
        return Visit(alive=False, detail="; ".join(met))

    async def _resolve(self, name: str, tls: ssl.SSLContext) -> Sequence[dns.Address]:
        """Return a name's addresses, none if there is no such name; raises `NotResolved`."""
        connector = aiohttp.TCPConnector(ssl=tls)
        try:
            async with (
                asyncio.timeout(self._patience),
                aiohttp.ClientSession(connector=connector, headers=_AGENT) as session,
            ):
                return await self._ask(session, name, "A") or await self._ask(session, name, "AAAA")
        except TimeoutError:
            cause = f"no answer within {self._patience:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            cause = describe(error)
        raise NotResolved(resolver=self._resolver, name=name, cause=cause)

    async def _ask(self, session: aiohttp.ClientSession, name: str, kind: dns.Kind) -> Sequence[dns.Address]:
        async with session.post(
            self._resolver,
            data=dns.question(name, kind),
            headers={"Content-Type": _DNS_MESSAGE, "Accept": _DNS_MESSAGE},
            allow_redirects=False,
        ) as response:
            if response.status != 200:
                raise dns.NoAnswer(f"it answers {response.status}")
            answer = dns.answer(await body.read(response, at_most=_MESSAGE_BYTES))
        if answer.code not in {dns.NO_ERROR, dns.NO_SUCH_NAME}:
            raise dns.NoAnswer(f"it could not find out (response code {answer.code})")
        return answer.addresses

    async def _call(self, url: URL, address: dns.Address, nonce: str, tls: ssl.SSLContext) -> str:
        """Ask for `url` at `address`; return what is wrong with the answer, "" if it is this agent's. Reads no body."""
        connector = aiohttp.TCPConnector(resolver=_Known(address), ssl=tls, force_close=True)
        try:
            async with (
                asyncio.timeout(self._patience),
                aiohttp.ClientSession(connector=connector, headers=_AGENT) as session,
                session.get(url, headers={PROBE_HEADER: nonce}, allow_redirects=False) as answer,
            ):
                if answer.status == 405 and answer.headers.get(PROBE_HEADER) == nonce:
                    return ""
                return f"it answers {answer.status}, which is not this agent's answer"
        except TimeoutError:
            return f"no answer within {self._patience:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return describe(error)


class _Known(AbstractResolver):
    """Knows one address, whatever the name; TLS is held against the name all the same."""

    def __init__(self, address: dns.Address) -> None:
        self._address = address

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,
    ) -> list[ResolveResult]:
        """Return the address."""
        family = socket.AF_INET if self._address.version == 4 else socket.AF_INET6
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [ResolveResult(hostname=host, host=str(self._address), port=port, family=family, proto=0, flags=flags)]

    async def close(self) -> None:
        """Keep nothing open."""
