"""tailscaled, asked over its own socket: how it stands, what it publishes, and the one edit that we make there.

This module alone knows tailscaled's LocalAPI, HTTP over a unix socket (ipn/localapi in its source), which is not
promised to stay as it is. A daemon that hangs takes a connection and says nothing, so every question has a deadline
of its own. Asking is for every local user, changing for root and the node's operator.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import pwd
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import BaseModel, Field

from homelab_agent.core.errors import AgentError, Exit, describe
from homelab_agent.gate import body
from homelab_agent.gate.reading import Entry, Reading, ServeConfig

PATIENCE_SECONDS = 1.5
"""How long the daemon has for all that it is asked at once; it takes some milliseconds."""

TRIES = 5
"""How often an edit is begun anew because somebody else has changed the configuration meanwhile."""

_URL = "http://local-tailscaled.sock/localapi/v0/"
"""The one name that tailscaled answers to."""
_ANSWER_BYTES = 8 * 1024 * 1024
_WORDS_BYTES = 4096


class DaemonUnreachable(AgentError):
    """tailscaled does not answer at {socket}."""

    repair = "systemctl restart tailscaled"
    exit_code = Exit.UNREACHABLE


class DaemonNotRunning(DaemonUnreachable):
    """No tailscaled listens at {socket}."""

    repair = "systemctl start tailscaled (or [gate] socket = where it listens)"


class NotPermitted(AgentError):
    """{user} may not change what tailscaled publishes."""

    repair = "sudo homelab-agent gate operator {user} (a node has one operator: it asks first), or as root"


class NotChanged(AgentError):
    """tailscaled does not change what it publishes."""

    repair = "tailscale funnel status --json"


class Tailscaled:
    """The daemon that listens at `socket`; each call ends within `patience` seconds.

    All raise `DaemonNotRunning` when nobody listens there, and `DaemonUnreachable` when no answer comes, or none that
    can be understood.
    """

    def __init__(self, socket: Path, *, patience: float = PATIENCE_SECONDS) -> None:
        self.socket = socket
        self._patience = patience

    async def read(self) -> Reading:
        """Return how the daemon stands and what it publishes."""
        async with self._asking() as session:
            status, _ = await _get(session, "status?peers=false")
            prefs, _ = await _get(session, "prefs")
            return _reading(status, prefs, await _serve_config(session))

    async def serve_config(self) -> ServeConfig:
        """Return what is published alone."""
        async with self._asking() as session:
            return await _serve_config(session)

    async def drop(self, port: int, target: str, *, sessions: bool = False) -> Sequence[Entry]:
        """Take back what sends requests on `port` to `target`, and nothing else; return what that was.

        Entries that stay (background), and with `sessions` those of foreground sessions too, whose holders then end.
        Raises `NotPermitted`, and `NotChanged` when the daemon takes no change.
        """
        for _ in range(TRIES):
            async with self._asking() as session:
                config = await _serve_config(session)
                left, gone = without(config, port, target, sessions=sessions)
                if not gone or await _set(session, left, config.etag):
                    return gone
        raise NotChanged(cause=f"somebody else changes it, {TRIES} times in a row while we do")

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Give a connection for a few questions, and say in our own errors why there is no answer."""
        connector = aiohttp.UnixConnector(str(self.socket))
        try:
            async with asyncio.timeout(self._patience), aiohttp.ClientSession(_URL, connector=connector) as session:
                yield session
        except TimeoutError:
            raise DaemonUnreachable(socket=self.socket, cause=f"no answer within {self._patience:g} s") from None
        except aiohttp.ClientConnectorError as error:
            is_gone = isinstance(error.os_error, FileNotFoundError | ConnectionRefusedError)
            kind: type[DaemonUnreachable] = DaemonNotRunning if is_gone else DaemonUnreachable
            raise kind(socket=self.socket, cause=error.os_error) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise DaemonUnreachable(socket=self.socket, cause=describe(error)) from error


def without(
    config: ServeConfig, port: int, target: str, *, sessions: bool = False
) -> tuple[Mapping[str, Any], Sequence[Entry]]:
    """Return a configuration without what sends requests on `port` to `target`, and what that was.

    Everything else is as it was, whatever it means. With `sessions`, entries of foreground sessions go as well.
    """
    gone = [one for one in config.entries(port) if one.aims_at(target) and (sessions or not one.session)]
    raw = copy.deepcopy(dict(config.raw))
    for entry in gone:
        layer = raw["Foreground"][entry.session] if entry.session else raw
        _strike(layer, entry)
        if entry.session and not layer:
            _remove(raw, "Foreground", entry.session)
    return raw, gone


def _strike(layer: dict[str, Any], entry: Entry) -> None:
    name = f"{entry.host}:{entry.port}"
    _remove(layer, "Web", name)
    _remove(layer, "AllowFunnel", name)
    if not any(other.endswith(f":{entry.port}") for other in layer.get("Web") or ()):
        _remove(layer, "TCP", str(entry.port))


def _remove(layer: dict[str, Any], table: str, key: str) -> None:
    """Remove a key, and its table with the last one, as tailscaled's own client does."""
    found = layer.get(table)
    if isinstance(found, dict) and key in found:
        del found[key]
        if not found:
            del layer[table]


async def _get(session: aiohttp.ClientSession, what: str) -> tuple[Mapping[str, Any], str]:
    """Return an object that the daemon knows, nothing where it says null, and its entity tag."""
    async with session.get(what) as answer:
        if answer.status != 200:
            message = f"to {what} it answers {answer.status}: {await _words(answer)}"
            raise ValueError(message)
        told = json.loads(await body.read(answer, at_most=_ANSWER_BYTES))
        if told is not None and not isinstance(told, dict):
            message = f"to {what} it answers with something else than an object"
            raise ValueError(message)
        return told or {}, answer.headers.get("Etag", "")


async def _serve_config(session: aiohttp.ClientSession) -> ServeConfig:
    return ServeConfig(*await _get(session, "serve-config"))


async def _set(session: aiohttp.ClientSession, raw: Mapping[str, Any], etag: str) -> bool:
    """Replace what is published; return False when it is not any more what `etag` stands for."""
    if not etag:  # without one, whatever somebody else has published meanwhile would be overwritten
        raise NotChanged(cause="it does not say what its configuration is known by")
    async with session.post("serve-config", json=raw, headers={"If-Match": etag}) as answer:
        match answer.status:
            case 200:
                return True
            case 412:
                return False
            case 401 | 403:
                raise NotPermitted(user=await asyncio.to_thread(own_name), cause=await _words(answer))
            case _:
                raise NotChanged(cause=await _words(answer))


def own_name() -> str:
    """Return what tailscaled calls who we are: a user's name, or the number of one that has none; blocking."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


async def _words(answer: aiohttp.ClientResponse) -> str:
    """Return what an answer says for a person, in one line."""
    text = (await answer.content.read(_WORDS_BYTES)).decode(errors="replace")
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    return " ".join(str(told["error"] if isinstance(told, dict) and "error" in told else text).split())


class _Node(BaseModel):
    """The part of ipnstate.PeerStatus that is read of this node."""

    name: str = Field(default="", alias="DNSName")
    capabilities: dict[str, Any] | None = Field(default=None, alias="CapMap")
    key_expiry: datetime | None = Field(default=None, alias="KeyExpiry")


class _Status(BaseModel):
    """The part of ipnstate.Status that is read."""

    version: str = Field(alias="Version")
    backend: str = Field(alias="BackendState")
    cert_domains: list[str] | None = Field(default=None, alias="CertDomains")
    node: _Node | None = Field(default=None, alias="Self")


class _Prefs(BaseModel):
    """The part of ipn.Prefs that is read."""

    shields_up: bool = Field(default=False, alias="ShieldsUp")
    operator: str = Field(default="", alias="OperatorUser")


def _reading(status: Mapping[str, Any], prefs: Mapping[str, Any], config: ServeConfig) -> Reading:
    """Return what the daemon's answers say; raises ValueError when they are not of their shape."""
    told, wanted = _Status.model_validate(status), _Prefs.model_validate(prefs)
    node = told.node or _Node()
    return Reading(
        version=told.version.partition("-")[0],
        backend=told.backend,
        name=node.name.rstrip("."),
        capabilities=frozenset(node.capabilities or ()),
        cert_domains=tuple(told.cert_domains or ()),
        key_expiry=node.key_expiry,
        shields_up=wanted.shields_up,
        operator=wanted.operator,
        config=config,
    )
