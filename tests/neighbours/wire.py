"""A wire between two programs that can be made slow, reset, dead or cut: toxiproxy, built from its Go module.

It carries TCP; what listens on a unix socket is reached through systemd-socket-proxyd.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import http.client
import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.neighbours import golang, neighbour
from tests.neighbours.neighbour import Neighbour
from tests.neighbours.ports import free_port, listens
from tests.neighbours.postgres import Postgres
from tests.neighbours.server import Server

VERSION = "2.12.0"
_MODULE = "github.com/Shopify/toxiproxy/v2"
_FLAGS = f"-ldflags=-s -w -X {_MODULE}.Version={VERSION}"
_PROXYD = Path("/lib/systemd/systemd-socket-proxyd")
_PIDFD_GETFD = 438
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_NEVER = 0.0


@functools.cache
def program() -> Path:
    """Return toxiproxy's server; raises `Missing` without Go."""
    return golang.built("toxiproxy", f"{_MODULE}/cmd/server", flags=(_FLAGS,))


def obtain() -> None:
    """Build it."""
    program()


NEIGHBOUR = Neighbour(
    "toxiproxy",
    f"Go module {_MODULE} v{VERSION}",
    version=lambda: neighbour.version_of([program(), "-version"]),
    obtain=obtain,
)


class Line:
    """One wire: who connects to `port` on the loopback interface talks to what is behind it.

    Breakages add up, and hold for connections that are there and for new ones, until `mend`.
    """

    def __init__(self, toxiproxy: Toxiproxy, port: int) -> None:
        self.port = port
        self._toxiproxy = toxiproxy
        self._path = f"/proxies/{port}"
        self._toxics: set[str] = set()

    @property
    def address(self) -> str:
        """What a client is told: host and port."""
        return f"127.0.0.1:{self.port}"

    def latency(self, milliseconds: int, *, jitter: int = 0) -> None:
        """Let every answer come so much later, give or take up to `jitter` milliseconds."""
        self._poison("latency", "downstream", latency=milliseconds, jitter=jitter)

    def bandwidth(self, kilobytes: int) -> None:
        """Let at most so many kilobytes a second through, each way."""
        self._poison("bandwidth", "upstream", rate=kilobytes)
        self._poison("bandwidth", "downstream", rate=kilobytes)

    def slice(self, octets: int, *, microseconds: int = 0) -> None:
        """Cut answers into pieces of so many bytes, with a pause after each."""
        self._poison("slicer", "downstream", average_size=octets, size_variation=0, delay=microseconds)

    def limit(self, octets: int) -> None:
        """Close each connection in order after so many bytes of answer, wherever in a message that is."""
        self._poison("limit_data", "downstream", bytes=octets)

    def reset(self, *, after: int = 0) -> None:
        """Reset the client's connections (ECONNRESET): those that are there at once, new ones at their first byte.

        With `after`, each when it has brought so many bytes of answer from now on.
        """
        if after:
            # A reset that never comes by itself: it only lets connections end in one instead of in order.
            self._poison("reset_peer", "downstream", toxicity=_NEVER, timeout=0)
            self._poison("limit_data", "downstream", bytes=after)
            self._end_in_a_reset()
        else:
            self._poison("reset_peer", "upstream", timeout=0)
            self._end_in_a_reset()
            self._enable(yes=False)
            self._enable(yes=True)

    def half_open(self) -> None:
        """Let connections be made and stay, and nothing through them; what is sent meanwhile is lost.

        An end that closes itself is still seen by the other. `mend` closes them: they lack what was lost.
        """
        self._poison("timeout", "upstream", timeout=0)
        self._poison("timeout", "downstream", timeout=0)

    def cut(self) -> None:
        """Reset the client's connections and refuse new ones."""
        self._end_in_a_reset()
        self._enable(yes=False)

    def mend(self) -> None:
        """Let everything through again, at once."""
        for name in sorted(self._toxics):
            self._toxiproxy.ask("DELETE", f"{self._path}/toxics/{name}")
        self._toxics.clear()
        self._enable(yes=True)

    def close(self) -> None:
        """Close every connection, and listen no more."""
        self._toxiproxy.ask("DELETE", self._path)

    def _poison(self, kind: str, stream: str, *, toxicity: float = 1.0, **attributes: int) -> None:
        name = f"{kind}-{stream}"
        said = {"name": name, "type": kind, "stream": stream, "toxicity": toxicity, "attributes": attributes}
        self._toxiproxy.ask("POST", f"{self._path}/toxics" + (f"/{name}" if name in self._toxics else ""), said)
        self._toxics.add(name)

    def _enable(self, *, yes: bool) -> None:
        self._toxiproxy.ask("POST", self._path, {"enabled": yes})

    def _end_in_a_reset(self) -> None:
        """Make every connection of a client that is there now end in a reset, whenever it is closed.

        toxiproxy can do that to new ones only, so it is done to its sockets from here (socket(7), SO_LINGER).
        """
        for connection in self._toxiproxy.sockets():
            with connection:
                if connection.getsockname()[1:2] == (self.port,):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


class Toxiproxy:
    """A running toxiproxy, asked over its HTTP API at `port`."""

    def __init__(self, server: Server, port: int) -> None:
        self._server = server
        self.port = port

    @property
    def version(self) -> str:
        """What it says of itself."""
        return str(self.ask("GET", "/version")["version"])

    @contextmanager
    def wires(self, directory: Path) -> Iterator[Wire]:
        """Give what lays wires; all of them are removed when the context ends. `directory` is for logs."""
        with ExitStack() as stack:
            yield Wire(self, directory, stack)

    def ask(self, method: str, path: str, said: object = None) -> Any:
        """Ask the API; return what it answers. Raises RuntimeError when it refuses."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, None if said is None else json.dumps(said))
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            message = f"toxiproxy: {method} {path}: {answer.status} {body.decode(errors='replace')}"
            raise RuntimeError(message)
        return json.loads(body or b"null")

    def sockets(self) -> Iterator[socket.socket]:
        """Give a copy of each socket that it has open, to be closed by who takes it (pidfd_getfd(2))."""
        libc = ctypes.CDLL(None, use_errno=True)
        process = os.pidfd_open(self._server.pid)
        try:
            for entry in Path(f"/proc/{self._server.pid}/fd").iterdir():
                with suppress(FileNotFoundError):
                    if not str(entry.readlink()).startswith("socket:"):
                        continue
                    copy = libc.syscall(_PIDFD_GETFD, process, int(entry.name), 0)
                    if copy < 0 and ctypes.get_errno() == errno.EBADF:  # closed just now
                        continue
                    if copy < 0:
                        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
                    yield socket.socket(fileno=copy)
        finally:
            os.close(process)


class Wire:
    """Lays wires, as many as one likes: `wire(upstream)`."""

    def __init__(self, toxiproxy: Toxiproxy, directory: Path, stack: ExitStack) -> None:
        self._toxiproxy = toxiproxy
        self._directory = directory
        self._stack = stack

    def __call__(self, upstream: int | str | Path) -> Line:
        """Lay a wire to a port of the loopback interface, to "host:port", or to a unix socket."""
        if isinstance(upstream, Path):
            upstream = self._stack.enter_context(_bridge(upstream, self._directory))
        behind = upstream if isinstance(upstream, str) else f"127.0.0.1:{upstream}"
        port = free_port()
        said = {"name": str(port), "listen": f"127.0.0.1:{port}", "upstream": behind, "enabled": True}
        self._toxiproxy.ask("POST", "/proxies", said)
        line = Line(self._toxiproxy, port)
        self._stack.callback(line.close)
        return line


def url_through(line: Line, server: Postgres) -> str:
    """Return what goes into `[database] url` when the line's far end is this PostgreSQL."""
    return server.url_at(line.address)


@contextmanager
def running(directory: Path) -> Iterator[Toxiproxy]:
    """Run toxiproxy until the context ends; its log is in `directory`."""
    port = free_port()
    argv: list[str | Path] = [program(), "-host", "127.0.0.1", "-port", str(port)]
    server = Server("toxiproxy", argv, ready=lambda: listens(port), log=directory / "toxiproxy.log")
    try:
        server.start()
        yield Toxiproxy(server, port)
    finally:
        server.close()


@contextmanager
def _bridge(unix: Path, directory: Path) -> Iterator[int]:
    """Let a TCP port lead to a unix socket; give the port."""
    activate = neighbour.program("systemd-socket-activate", "apt install systemd")
    port = free_port()
    argv: list[str | Path] = [activate, "--listen", f"127.0.0.1:{port}", _PROXYD, unix]
    server = Server("systemd-socket-proxyd", argv, ready=lambda: listens(port), log=directory / f"bridge-{port}.log")
    try:
        server.start()
        yield port
    finally:
        server.close()
