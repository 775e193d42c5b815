"""What tailscaled says of itself, and what it publishes on a port: the values that adapter and decisions share.

The shape of the serve configuration is tailscaled's own (`ServeConfig` in its ipn/serve.go), which is not promised to
stay as it is: it is kept as it came, and what is not understood on our port counts as somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

Presence: TypeAlias = Literal["none", "ours", "stale", "leftover", "foreign", "unknown"]
"""What is read back on a port of ours: nothing, what our child publishes, something that points at us but is not as it
should be, a session that points at us though no child of ours runs, somebody else's entry; or the daemon cannot be
asked."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is published on one port under one name.

    `session` is the foreground session that it ends with, "" for an entry that stays (background). `host` is the name
    that it answers to, "" for bare TCP. `target` is where requests go ("http://127.0.0.1:8085"), or what else is there
    in words. `is_funnel` says whether the internet reaches it.
    """

    session: str
    host: str
    port: int
    target: str
    is_funnel: bool

    def aims_at(self, target: str) -> bool:
        """Return whether every request goes to `target`, however this host is called in it."""
        return _address(self.target) == _address(target)


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """What a node publishes: `raw` as tailscaled wrote it, `etag` what it is known by."""

    raw: Mapping[str, Any] = field(default_factory=dict)
    etag: str = ""

    def entries(self, port: int) -> list[Entry]:
        """Return what is published on a port of the node itself, in the background first."""
        return [entry for session, layer in self._layers() for entry in self._entries(session, layer, port)]

    def ports(self) -> list[int]:
        """Return the ports on which anything is published."""
        return sorted({int(port) for _, layer in self._layers() for port in _table(layer, "TCP") if port.isdecimal()})

    def _entries(self, session: str, layer: Mapping[str, Any], port: int) -> Iterator[Entry]:
        web = {key: one for key, one in _table(layer, "Web").items() if key.endswith(f":{port}")}
        for key, one in web.items():
            yield Entry(session, key.rpartition(":")[0], port, _handled(one), self._is_funnel(key))
        tcp = _table(layer, "TCP")
        if str(port) in tcp and not web:
            host, target = _forwarded(tcp[str(port)])
            yield Entry(session, host, port, target, self._is_funnel(f"{host}:{port}" if host else f":{port}"))

    def _is_funnel(self, key: str) -> bool:
        """Return whether the internet is let in: one layer that allows it is enough for all of them."""
        return any(
            allowed and (name == key or (key.startswith(":") and name.endswith(key)))
            for _, layer in self._layers()
            for name, allowed in _table(layer, "AllowFunnel").items()
        )

    def _layers(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        yield "", self.raw
        for session, layer in _table(self.raw, "Foreground").items():
            if isinstance(layer, Mapping):
                yield session, layer


@dataclass(frozen=True, slots=True)
class Reading:
    """What tailscaled answers; `name` is the node's own, as "homelab.tail1234.ts.net".

    `backend` is tailscaled's state ("Running", "Stopped", "NeedsLogin", ...). `capabilities` are what the tailnet's
    policy gives this node: the keys of its CapMap. `operator` is the one user beside root who may publish; "" for none.
    """

    version: str
    backend: str
    name: str
    capabilities: frozenset[str]
    cert_domains: tuple[str, ...]
    key_expiry: datetime | None
    shields_up: bool
    operator: str
    config: ServeConfig


def presence(config: ServeConfig, port: int, *, name: str, target: str, is_funnel: bool, child_runs: bool) -> Presence:
    """Return what `config` has on `port`, where our child would publish `target` under `name`.

    A foreground entry that points at us is ours while our child runs: tailscaled takes no second one on a port. What
    points at us in the background, under an old name, or for another public than meant is stale: it is ours to end.
    Without a child it is left over, of one that has just ended, as a rule: tailscaled takes it back by itself.
    """
    found = config.entries(port)
    if not found:
        return "none"
    if not all(one.aims_at(target) for one in found):
        return "foreign"
    if not child_runs and any(one.session for one in found):
        return "leftover"
    as_it_should_be = [one for one in found if one.session and one.host == name and one.is_funnel == is_funnel]
    return "ours" if len(as_it_should_be) == len(found) == 1 else "stale"


def _table(layer: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return a map of the configuration; absent and null are empty."""
    found = layer.get(key)
    return found if isinstance(found, Mapping) else {}


def _handled(web: Any) -> str:
    """Return where a name's requests go, if it is one place for all of them; else what handles them, in words."""
    handlers = _table(web, "Handlers") if isinstance(web, Mapping) else {}
    if list(handlers) == ["/"] and isinstance(handlers["/"], Mapping) and isinstance(handlers["/"].get("Proxy"), str):
        return str(handlers["/"]["Proxy"])
    said = [f"{mount} by {', '.join(one) if isinstance(one, Mapping) else one}" for mount, one in handlers.items()]
    return "; ".join(said) or "nothing"


def _forwarded(tcp: Any) -> tuple[str, str]:
    """Return the name that a bare TCP entry answers to, and where it goes."""
    if isinstance(tcp, Mapping) and isinstance(tcp.get("TCPForward"), str):
        return str(tcp.get("TerminateTLS") or ""), f"tcp://{tcp['TCPForward']}"
    return "", "nothing"


def _address(target: str) -> tuple[str, str, int | None, str]:
    """Return a proxy's target in parts; `localhost` is 127.0.0.1, for tailscaled connects to the same."""
    try:
        parts = urlsplit(target)
        host = parts.hostname or ""
        return parts.scheme, "127.0.0.1" if host == "localhost" else host, parts.port, parts.path.rstrip("/")
    except ValueError:
        return "", target, None, ""
