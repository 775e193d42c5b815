"""A tailnet of the tests' own: a host under test with the real tailscaled, and all the world around it.

That world is one Go program (`go/tailnet`): Tailscale's own test control server with its relay for encrypted traffic,
two more nodes, and the relay through which the public comes. As production's, that one lets nobody in unless the host
has the capability `funnel`, the port is in its `funnel-ports`, and it says that it takes the public. What differs:

- There is no ACME: `place_certificate` puts one of a throw-away authority where the daemon would keep its own.
- A public name is known to `resolver` alone, at once and for as long as there is the host.
- Control forgets no node; one that logs in anew has another address. Killed it would forget all: freeze it, or `cut`.
"""

from __future__ import annotations

import functools
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.neighbours import network, tailnet_world, tailscale
from tests.neighbours.guard import guarded
from tests.neighbours.neighbour import Neighbour, version_of
from tests.neighbours.network import Network
from tests.neighbours.server import Server
from tests.neighbours.tailnet_world import DOMAIN, HOST, RESOLVER, Control, Relay, World
from tests.neighbours.tailscale import MODULE, VERSION
from tests.neighbours.tailscaled import Tailscaled
from tests.neighbours.visitors import Public, Visitor, through


class Tailnet:
    """A host, those who ask it, and what is between them."""

    name = f"{HOST}.{DOMAIN}"
    resolver = f"https://{RESOLVER}/dns-query"
    """Knows the public's address of `name` (DNS over HTTPS, RFC 8484); `ca` vouches for it."""

    def __init__(self, directory: Path, *, of: int | None = None) -> None:
        """`of` is the process whose network it is to be in."""
        self.directory = directory
        self.ca = directory / "ca.pem"
        self.network = Network(directory, of=of)
        self._servers: list[Server] = []

    def start(self) -> None:
        """Start all of it; return when the host is one of the tailnet's."""
        self._start(self.network)
        self.world = World(self.directory, self.network)
        self._start(self.world)
        self.control, self.relay = Control(self.world), Relay(self.world)
        self.homelab = Tailscaled(HOST, self.directory, self.network, self.control)
        self._start(self.homelab)
        self.homelab.log_in()
        self.place_certificate()
        tls = ssl.create_default_context(cafile=self.ca)
        self.public = Public(self.name, self.network, tls, self.relay.why_refused)
        self.laptop = Visitor(self.name, functools.partial(self._from, "laptop"), tls)
        self.server = Visitor(self.name, functools.partial(self._from, "server"), tls)
        self.loopback = Visitor("127.0.0.1", lambda port: self.network.connect("127.0.0.1", port), None)

    def heal(self) -> None:
        """Bring all of it back to where it was in the beginning, whatever a test did to it."""
        self.world.thaw()
        self.relay.carry()
        self.control.mend()
        self.control.answer_feature(None)
        self.control.expire(None)
        self.homelab.heal(self.control.mark())
        self.place_certificate()

    def close(self) -> None:
        """End all of it."""
        for server in reversed(self._servers):
            server.close()

    def place_certificate(
        self, name: str = name, *, lasts: timedelta = timedelta(days=60), trusted: bool = True
    ) -> None:
        """Put a certificate where the daemon takes that of the host's name from: a right one, or a wrong one."""
        made = self.world.certificate(name, datetime.now(UTC) + lasts, trusted=trusted)
        kept = self.homelab.state / "certs"
        kept.mkdir(mode=0o700, exist_ok=True)
        (kept / f"{self.name}.crt").write_text(made["certificate"])
        (kept / f"{self.name}.key").write_text(made["key"])

    def remove_certificate(self) -> None:
        """Let the host have none, as before the first request."""
        for kept in (self.homelab.state / "certs").glob(f"{self.name}.*"):
            kept.unlink()

    def _start(self, server: Server) -> None:
        self._servers.append(server)
        server.start()

    def _from(self, node: str, port: int) -> socket.socket:
        address = self.control.hosts()[HOST].address
        return through(str(self.directory / f"{node}.sock"), address, port)


@contextmanager
def running(*, of: int | None = None, directory: Path | None = None) -> Iterator[Tailnet]:
    """Give a tailnet in which nothing is served; it leaves nothing, and prints the ends of its logs where it fails.

    A machine is the host under test when `of` is its PID 1, in whose network the tailnet then is, and whose users its
    daemon knows; it shares `directory` and where Tailscale's programs are. Needs root.
    """
    obtain()
    with nullcontext(directory) if directory else guarded("tailnet") as place:
        tailnet = Tailnet(place, of=of)
        try:
            tailnet.start()
            yield tailnet
        except BaseException:
            for log in place.glob("*.log"):
                print(f"--- {log}\n{log.read_text(errors='replace')[-3000:]}")
            raise
        finally:
            tailnet.close()


def obtain() -> None:
    """Build all of it where that was not done yet: two minutes on two cores. Raises `Missing`."""
    network.obtain()
    for name in ("tailscale", "tailscaled"):
        tailscale.built(name)
    tailnet_world.program()


NEIGHBOUR = Neighbour(
    "Tailscale",
    f"Go module {MODULE} v{VERSION}",
    version=lambda: version_of([tailscale.built("tailscaled"), "--version"]),
    obtain=obtain,
)
