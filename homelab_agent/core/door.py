"""The public door: whether the web server answers the internet, and what the internet asked of it meanwhile.

The gate opens and shuts it, the web server stands in it; neither knows the other. It is shut at first.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

PUBLIC_PATH = "/api/webhook/gitops"
"""The one path that the public reaches, and that by POST alone."""

FUNNEL_HEADER = "Tailscale-Funnel-Request"
"""How tailscaled marks what comes from the internet ("?1"); nobody who comes through it can send or leave out this."""

PROBE_HEADER = "X-Homelab-Probe"
"""Where a probe says its nonce, and hears it again."""

TAILNET_RANGES = (ipaddress.ip_network("100.64.0.0/10"), ipaddress.ip_network("fd7a:115c:a1e0::/48"))
"""Where Tailscale numbers the machines of a tailnet: RFC 6598's shared space, and its own ULA prefix."""

SOURCES_MAX = 10_000
_NONCE_BYTES = 24


@dataclass(frozen=True, slots=True)
class Visits:
    """What the public asked while the door was open; `SOURCES_MAX` different sources are at least so many.

    `sent_bytes` are those of the answers that were sent to their end, with their heads.
    """

    requests: int
    sources: int
    sent_bytes: int


class PublicDoor:
    """Open or shut; used from the event loop's thread alone."""

    def __init__(self) -> None:
        self.names: frozenset[str] = frozenset()
        """Under which names, beside those of the configuration, requests come through a door: lower case."""
        self._is_open = False
        self._is_barred = False
        self._on_shut: list[Callable[[], None]] = []
        self._nonces: set[str] = set()
        self._requests = 0
        self._sources: set[str] = set()
        self._sent_bytes = 0

    @property
    def is_open(self) -> bool:
        """Whether the public is let in."""
        return self._is_open

    @property
    def is_barred(self) -> bool:
        """Whether it will not be opened any more."""
        return self._is_barred

    def open(self) -> None:
        """Let the public in, and count its visits from none; what is open stays as it is, and what is barred."""
        if not self._is_open and not self._is_barred:
            self._is_open = True
            self._requests = self._sent_bytes = 0
            self._sources = set()

    def shut(self) -> None:
        """Let nobody in; when this returns, nothing more is said to the public. What is shut stays as it is."""
        if self._is_open:
            self._is_open = False
            for callback in self._on_shut:
                callback()

    def bar(self) -> None:
        """Shut it for good: the agent is about to stop."""
        self._is_barred = True
        self.shut()

    def on_shut(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever the door was shut: who answers the public then stops."""
        self._on_shut.append(callback)

    @contextmanager
    def probing(self) -> Iterator[str]:
        """Yield a nonce; until the context ends, a request from the public side that bears it is our own.

        With `PROBE_HEADER` it is answered while the door is shut, too, and is no visit. A POST to `PUBLIC_PATH`
        with `FUNNEL_HEADER` goes the whole way of a delivery up to the handler: 204. Through the internet a GET:
        405. Both echo the nonce, which nobody can guess, and which is said to nobody but who sent it.
        """
        nonce = secrets.token_urlsafe(_NONCE_BYTES)
        self._nonces.add(nonce)
        try:
            yield nonce
        finally:
            self._nonces.discard(nonce)

    def is_probe(self, nonce: str) -> bool:
        """Whether `nonce` is one of ours, of a probe that goes on."""
        return nonce in self._nonces

    def visited(self, source: str) -> None:
        """Count a request that was let in; `source` is the address that it came from."""
        self._requests += 1
        if len(self._sources) < SOURCES_MAX:
            self._sources.add(source)

    def answered(self, sent_bytes: int) -> None:
        """Count what a visitor was sent."""
        self._sent_bytes += sent_bytes

    def visits(self) -> Visits:
        """Return what was counted since the door was opened last; it stays known when it is shut."""
        return Visits(self._requests, len(self._sources), self._sent_bytes)
