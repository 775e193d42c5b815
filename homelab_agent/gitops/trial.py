"""Tries a hook out from the command line: a signed ping, by the same way over TCP that the forge's deliveries take."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from homelab_agent.core.console import Console
from homelab_agent.core.door import PUBLIC_PATH
from homelab_agent.core.errors import AgentError, NeighbourUnreachable

_SECONDS = 30.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here
_REPAIRS = {
    401: "homelab-agent status",
    403: "add the address that it was sent from to [gitops] networks",
    404: "homelab-agent gitops status",
    429: "wait a minute: too many deliveries from here were refused",
}


class HookRefused(AgentError):
    """The signed ping to {url} was refused with status {status}."""

    repair = "{repair}"


class HookIgnored(AgentError):
    """The signed ping to {url} was verified, and is not taken for the repository {name}."""

    repair = "homelab-agent deliveries show {guid}"


@dataclass(frozen=True, slots=True)
class Pong:
    """What a ping was answered with: `url` is where it went, `key_name` the secret that it was signed with."""

    url: str
    key_name: str
    answer: Mapping[str, Any]


def send(console: Console, name: str) -> Pong:
    """Send the ping for a repository; raises `HookRefused`, `HookIgnored`, `NeighbourUnreachable`."""
    signed = console.client().post(f"/api/gitops/{quote(name, safe='')}/ping")
    host, port = _where(console.section("web").listen)
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}{PUBLIC_PATH}"
    status, answer = _post(host, port, signed["headers"], signed["body"].encode(), url)
    if status >= http.client.BAD_REQUEST:
        said = f"{answer.get('title', '')} {answer.get('detail', '')}".strip()
        repair = answer.get("repair") or _REPAIRS.get(status, "journalctl -u homelab-agent")
        raise HookRefused(url=url, status=status, repair=repair, cause=said)
    if answer["status"] != "pong":
        raise HookIgnored(url=url, name=name, guid=answer["delivery"], cause=answer["detail"])
    return Pong(url, signed["key_name"], answer)


def _post(host: str, port: int, headers: Mapping[str, str], body: bytes, url: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
    try:
        connection.request("POST", PUBLIC_PATH, body, dict(headers))
        response = connection.getresponse()
        text = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise NeighbourUnreachable(
            neighbour=f"the webhook's route at {url}", repair="see [web] listen: homelab-agent config show", cause=error
        ) from error
    finally:
        connection.close()
    try:
        return response.status, json.loads(text)
    except ValueError:
        return response.status, {"title": text.decode(errors="replace")}


def _where(listen: str) -> tuple[str, int]:
    """Return where a socket that listens there is reached from this host."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    return _EVERYWHERE.get(host, host), int(port)
