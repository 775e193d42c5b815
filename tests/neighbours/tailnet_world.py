"""What is around the host under test: control, the public relay, a resolver and two nodes, in one Go program."""

from __future__ import annotations

import functools
import http.client
import itertools
import json
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from tests.neighbours import golang, tailscale
from tests.neighbours.network import Network
from tests.neighbours.server import Server

DOMAIN = "tail-test.ts.net"
HOST = "homelab"
RESOLVER = "203.0.113.53"
HTTPS, FUNNEL, PORTS = "https", "funnel", "https://tailscale.com/cap/funnel-ports?ports=443,8443,10000"
"""What a node needs before it may publish: each of them can be withdrawn."""

_CONTROL = "127.0.0.1:9911"


@functools.cache
def program() -> Path:
    """Return the world; raises `Missing` without Go."""
    return golang.built("tailnet", ".", module="tailnet")


@dataclass(frozen=True, slots=True)
class Host:
    """What control knows of a node."""

    name: str
    address: str
    tags: tuple[str, ...]
    key_expiry: datetime | None
    capabilities: frozenset[str]
    ingress_enabled: bool


class World(Server):
    """Control, the relay, the resolver and two nodes; each of them is told what to do over one socket."""

    def __init__(self, directory: Path, inside: Network) -> None:
        self._admin = directory / "admin.sock"
        where = ["-control", _CONTROL, "-relay", ",".join(inside.public), "-resolver", RESOLVER]
        super().__init__(
            "the tailnet's world",
            inside.inside(program(), "-directory", directory, *where),
            ready=self._answers,
            log=directory / "world.log",
            env=tailscale.environment(directory),
        )

    def tell(self, path: str, said: object) -> None:
        """Change something of it."""
        self._exchange("PUT", path, said)

    def ask(self, path: str) -> Any:
        """Look at something of it."""
        return self._exchange("GET", path)

    def certificate(self, name: str, until: datetime, *, trusted: bool) -> dict[str, str]:
        """Return a certificate and its key."""
        wish = {"name": name, "until": until.isoformat(), "trusted": trusted}
        made: dict[str, str] = self._exchange("POST", "/certificates", wish)
        return made

    def meet(self, host: str) -> None:
        """Return when its nodes can reach a host."""
        self._exchange("POST", f"/hosts/{host}/meeting")

    def _answers(self) -> bool:
        try:
            return bool(self.ask("/hosts"))
        except OSError:
            return False

    def _exchange(self, method: str, path: str, said: object = None) -> Any:
        connection = http.client.HTTPConnection("world", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        with connection.sock:
            connection.sock.connect(str(self._admin))
            connection.request(method, path, json.dumps(said))
            answer = connection.getresponse()
            body = answer.read()
        assert answer.status == 200, f"{method} {path}: {body.decode()}"
        return json.loads(body) if body else None


class Control:
    """The control server: what the tailnet's owner changes in it, and how it fails."""

    def __init__(self, world: World) -> None:
        self.url = f"http://{_CONTROL}"
        self._world = world
        self._marks = itertools.count()

    def hosts(self) -> dict[str, Host]:
        """Return those that there are, by name."""
        return {found["name"]: _host(found) for found in self._world.ask("/hosts")}

    def meet(self, host: str = HOST) -> None:
        """Return when the nodes of this world can reach the host."""
        self._world.meet(host)

    def withdraw(self, *capabilities: str, host: str = HOST) -> None:
        """Take capabilities away: `HTTPS`, `FUNNEL`, `PORTS`."""
        self.grant(*(one for one in (HTTPS, FUNNEL, PORTS) if one not in capabilities), host=host)

    def allow_ports(self, *ports: int, host: str = HOST) -> None:
        """Let the host publish on these ports only."""
        self.grant(HTTPS, FUNNEL, f"{PORTS.partition('=')[0]}={','.join(map(str, ports))}", host=host)

    def grant(self, *capabilities: str, host: str = HOST) -> None:
        """Let the host have these capabilities and no others."""
        self._world.tell(f"/hosts/{host}/capabilities", capabilities)

    def restore(self, host: str = HOST) -> None:
        """Give the host what it had in the beginning: all three."""
        self._world.tell(f"/hosts/{host}/capabilities", None)

    def mark(self) -> str:
        """Grant the host what it had in the beginning and one more, which is named and means nothing."""
        mark = f"{DOMAIN}/cap/mark-{next(self._marks)}"
        self.grant(HTTPS, FUNNEL, PORTS, mark)
        return mark

    def expire(self, after: timedelta | None = timedelta(minutes=-1), *, host: str = HOST) -> None:
        """Let the host's key end, by default a minute ago; None is that it never does."""
        at = None if after is None else (datetime.now(UTC) + after).isoformat()
        self._world.tell(f"/hosts/{host}/expiry", at or "0001-01-01T00:00:00Z")

    def cut(self) -> None:
        """Cut all connections and refuse new ones; those between nodes are left alone."""
        self._world.tell("/control/refusing", True)  # noqa: FBT003

    def mend(self) -> None:
        """Take connections again."""
        self._world.tell("/control/refusing", False)  # noqa: FBT003

    def answer_feature(self, answer: dict[str, object] | None) -> None:
        """What who asks for a feature is told: complete, text, url, shouldWait; None is that there is no such thing."""
        self._world.tell("/control/feature", answer)


class Relay:
    """Tailscale's servers between the public and the host."""

    def __init__(self, world: World) -> None:
        self._world = world

    def carry(self) -> None:
        """Work, as it should."""
        self._be("carry")

    def close(self) -> None:
        """Close every new connection."""
        self._be("close")

    def hang(self) -> None:
        """Take every new connection, and answer nothing."""
        self._be("hang")

    def why_refused(self, source: str) -> str:
        """Return why who came from an address and port was not let in; it is told once."""
        return str(self._world.ask(f"/relay/refusals/{quote(source)}")) or "the connection was closed"

    def _be(self, mode: Literal["carry", "close", "hang"]) -> None:
        self._world.tell("/relay/mode", mode)


def _host(found: dict[str, Any]) -> Host:
    expiry = datetime.fromisoformat(found["key_expiry"])
    return Host(
        found["name"],
        found["address"],
        tuple(found["tags"] or ()),
        None if expiry.year == 1 else expiry,
        frozenset(found["capabilities"]),
        found["ingress_enabled"],
    )
