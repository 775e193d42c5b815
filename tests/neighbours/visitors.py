"""Who asks a host of a tailnet: the public, its user's laptop, a tagged server, and a program on the host itself."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import BufferedReader
from typing import Self

from tests.neighbours.network import Network
from tests.neighbours.tailscaled import PORT

Body = bytes | Iterable[bytes] | None
"""What is sent goes in pieces, as they come, when it is not bytes."""
SOURCE = "203.0.113.7"
"""Where the public is when a test does not say."""


class Refused(ConnectionError):
    """Nobody let the public in; says who refused and why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass(frozen=True, slots=True)
class Raw:
    """A connection that has stopped to be HTTP, as a WebSocket has."""

    socket: socket.socket
    reading: BufferedReader

    def send(self, said: bytes) -> None:
        self.socket.sendall(said)

    def read(self, octets: int) -> bytes:
        """Return so many bytes, or what came before the end."""
        return self.reading.read(octets)


class Connection:
    """One connection, which stays until it is closed, by a test or by the other side. Requests go one by one."""

    def __init__(self, connected: socket.socket, host: str) -> None:
        """`host` is what is said in a request that names none."""
        self._http = http.client.HTTPConnection(host)
        self._http.auto_open = 0
        self._http.sock = connected

    def begin(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: Body = None
    ) -> http.client.HTTPResponse:
        """Ask, and return the answer as soon as its head is there; its body comes as one reads it.

        Raises OSError or HTTPException where the connection is lost.
        """
        self._http.request(method, path, body, dict(headers or {}))
        return self._http.getresponse()

    def ask(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: Body = None) -> Answer:
        """Ask and return the whole answer."""
        answer = self.begin(method, path, headers=headers, body=body)
        return Answer(answer.status, answer.headers, answer.read())

    def upgrade(self, path: str, protocol: str = "websocket") -> Raw:
        """Ask to go on with another protocol; fail when that is refused."""
        answer = self.begin("GET", path, headers={"Connection": "Upgrade", "Upgrade": protocol})
        assert answer.status == 101, f"{path}: {answer.status}"
        return Raw(self.socket, answer.fp)

    @property
    def socket(self) -> socket.socket:
        """What it goes over."""
        connected: socket.socket = self._http.sock
        return connected

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Visitor:
    """Somebody who asks the host, on the ports that it serves."""

    def __init__(self, name: str, reach: Callable[[int], socket.socket], tls: ssl.SSLContext | None) -> None:
        """`reach` connects to a port of the host; `tls` is for those who come from outside, and know it by `name`."""
        self._name = name
        self._reach = reach
        self._tls = tls

    def connect(self, port: int = PORT) -> Connection:
        """Open a connection that can take requests; raises OSError."""
        return self._secured(self._reach(port), port)

    def ask(
        self,
        method: str,
        path: str,
        *,
        port: int = PORT,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
    ) -> Answer:
        """Ask once, over a connection of its own."""
        with self.connect(port) as connection:
            return connection.ask(method, path, headers=headers, body=body)

    def reaches(self, port: int = PORT) -> bool:
        """Whether somebody takes a connection: TLS too, but nothing is asked."""
        try:
            self.connect(port).close()
        except OSError:
            return False
        return True

    def _secured(self, connected: socket.socket, port: int) -> Connection:
        if self._tls is None:
            return Connection(connected, f"{self._name}:{port}")
        try:
            return Connection(self._tls.wrap_socket(connected, server_hostname=self._name), f"{self._name}:{port}")
        except BaseException:
            connected.close()
            raise


class Public(Visitor):
    """Anybody on the internet. Each address of 203.0.113.0/24 and 2001:db8::/64 may be where he is."""

    def __init__(self, name: str, network: Network, tls: ssl.SSLContext, why_refused: Callable[[str], str]) -> None:
        """`why_refused` tells of an address and port."""
        super().__init__(name, self.reach, tls)
        self._network = network
        self._why_refused = why_refused

    def reach(self, port: int, source: str = SOURCE) -> socket.socket:
        """Connect to the relay, as one who has looked up the host's name; what comes next is TLS."""
        relay = next(one for one in self._network.public if (":" in one) == (":" in source))
        return self._network.connect(relay, port, source=source)

    def connect(self, port: int = PORT, *, source: str = SOURCE) -> Connection:
        """Open a connection; raises `Refused` where none is let in, ssl.SSLError where TLS fails with the host."""
        connected = self.reach(port, source)
        address, number, *_ = connected.getsockname()
        try:
            return self._secured(connected, port)
        except (ssl.SSLEOFError, ConnectionResetError) as closed:
            raise Refused(
                self._why_refused(f"[{address}]:{number}" if ":" in address else f"{address}:{number}")
            ) from closed


def through(proxy: str, host: str, port: int, *, seconds: float = 10.0) -> socket.socket:
    """Connect through an HTTP proxy on a unix socket (CONNECT, RFC 9110, 9.3.6); raises OSError."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(seconds)
        connection.connect(proxy)
        connection.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n") and (octet := connection.recv(1)):  # what follows is not ours
            head += octet
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ConnectionRefusedError(head.decode())
    except BaseException:
        connection.close()
        raise
    return connection
