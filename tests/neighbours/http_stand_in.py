"""An HTTP server of a test's own, which a protocol's stand-in answers for; it is broken as a server of the world is."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.neighbours.network import Network
from tests.neighbours.ports import free_port


@dataclass(frozen=True, slots=True)
class Asked:
    """One request; the names of headers are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class StandIn:
    """Listens on a port of its own from `up` to `down`; a subclass says what a request is answered."""

    def __init__(self, network: Network | None = None) -> None:
        """It listens in this network of the tests', where one is given."""
        self.port = free_port()
        self._network = network
        self.asked: list[Asked] = []
        self._failing: Reply | None = None
        self._go_on = threading.Event()
        self._go_on.set()
        self._say = threading.Event()
        self._say.set()
        self._server: ThreadingHTTPServer | None = None

    def answer(self, asked: Asked) -> Reply:
        """Return what it answers when it is well."""
        raise NotImplementedError

    def fail(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        """Answer everything so, until `mend`."""
        self._failing = Reply(status, body, headers or {})

    def hang(self) -> None:
        """Take requests and answer none, until `mend`."""
        self._go_on.clear()

    def keep_waiting(self) -> None:
        """Do what is asked and answer nothing, until `mend`."""
        self._say.clear()

    def mend(self) -> None:
        """Answer as one should."""
        self._failing = None
        self._go_on.set()
        self._say.set()

    def up(self) -> None:
        """Listen."""
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                stand_in.serve(self)

            do_POST = do_PUT = do_HEAD = do_GET  # noqa: N815 - http.server's names

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
                """Print nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Who hangs up, or is killed, does so."""

        self._server = Server(("127.0.0.1", self.port), Handler, bind_and_activate=False)
        if self._network is not None:
            self._server.socket.close()
            self._server.socket = self._network.make_socket()
        self._server.server_bind()
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="stand-in", daemon=True).start()

    def down(self) -> None:
        """Listen no more: connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        address = urlsplit(handler.path)
        asked = Asked(
            handler.command,
            address.path,
            {name: values[0] for name, values in parse_qs(address.query, keep_blank_values=True).items()},
            {name.lower(): value for name, value in handler.headers.items()},
            handler.rfile.read(int(handler.headers.get("Content-Length") or 0)),
        )
        self._go_on.wait(60)
        self.asked.append(asked)
        reply = self._failing or self.answer(asked)
        self._say.wait(60)
        handler.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(reply.body)

    @contextmanager
    def lasting(self) -> Iterator[StandIn]:
        """Listen while the context lasts."""
        self.up()
        try:
            yield self
        finally:
            self.mend()
            self.down()
