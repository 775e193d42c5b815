"""What the host of a tailnet publishes in tests: a web server that tells what it was asked; and who asks it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.neighbours.network import Network
from tests.neighbours.tailnet import Tailnet
from tests.neighbours.tailscaled import PORT
from tests.neighbours.visitors import Connection, Refused, Visitor
from tests.waiting import until

WEB = 8085


class Answering(BaseHTTPRequestHandler):
    """Tells who asks what it was asked; /stream goes on until `more` says no, /echo returns what it hears."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Published

    def do_GET(self) -> None:
        if self.path == "/stream":
            self._stream()
        elif self.path == "/echo":
            self._echo()
        else:
            self._answer(json.dumps({"path": self.path, "headers": self.headers.items()}).encode())

    def do_PUT(self) -> None:
        self.do_GET()

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        while self.server.may_go_on():
            self.wfile.write(b"more\n")

    def _echo(self) -> None:
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "websocket")
        self.end_headers()
        while heard := self.connection.recv(4096):
            self.connection.sendall(heard)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Published(ThreadingHTTPServer):
    """A web server on a port of the loopback interface, in a network of the tests."""

    def __init__(self, network: Network, port: int = WEB) -> None:
        super().__init__(("127.0.0.1", port), Answering, bind_and_activate=False)
        self.socket.close()
        self.socket = network.make_socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", port))
        self.server_activate()
        self.asked = threading.Semaphore(0)
        self._is_open = True

    def may_go_on(self) -> bool:
        """Wait until a test wants more of a stream; False when it has enough."""
        self.asked.acquire()
        return self._is_open

    def finish(self) -> None:
        """Let streams end."""
        self._is_open = False
        self.asked.release(100)

    def handle_error(self, *_: object) -> None:
        """Say nothing: broken connections are what the tests are about."""


@contextmanager
def publishing(network: Network, port: int = WEB) -> Iterator[Published]:
    """Give one that answers; streams end with it."""
    server = Published(network, port)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    serving.start()
    try:
        yield server
    finally:
        server.finish()
        server.shutdown()
        serving.join()
        server.server_close()


def seen(visitor: Visitor | Connection, path: str = "/", **headers: str) -> dict[str, str]:
    """Ask, and return the headers that arrived, with their names in lower case."""
    answer = visitor.ask("GET", path, headers={name.replace("__", "-"): value for name, value in headers.items()})
    assert answer.status == 200, answer
    return {name.lower(): value for name, value in json.loads(answer.body)["headers"]}


def why_refused(tailnet: Tailnet, port: int = PORT) -> str:
    """Return who refuses the public, and why."""
    with pytest.raises(Refused) as refused:
        tailnet.public.connect(port)
    return str(refused.value)


def is_gone(tailnet: Tailnet, capability: str) -> bool:
    """Whether the host knows that it lacks this."""
    return capability not in tailnet.homelab.capabilities


def public_is_refused(tailnet: Tailnet) -> None:
    """Wait until it is."""
    until(lambda: not tailnet.public.reaches(), "the public is refused", seconds=5)
