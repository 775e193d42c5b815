"""The wire is toxiproxy, and each of its breakages does what it says to real HTTP and to a real PostgreSQL."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import asyncpg
import pytest

from tests.neighbours import wire as wires
from tests.neighbours.ports import listens
from tests.neighbours.postgres import Postgres
from tests.neighbours.wire import Line, Toxiproxy, Wire, url_through
from tests.waiting import until

BODY = bytes(range(256)) * 400
QUESTION = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Answering(BaseHTTPRequestHandler):
    """Answers every GET with the same 100 kB, and keeps the connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Web(ThreadingHTTPServer):
    """A web server whose clients may vanish."""

    def handle_error(self, *_: object) -> None:
        """Say nothing: a broken connection is what the tests are about."""


@pytest.fixture(scope="module")
def web() -> Iterator[int]:
    server = Web(("127.0.0.1", 0), Answering)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    serving.start()
    yield server.server_port
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture
def line(wire: Wire, web: int) -> Line:
    return wire(web)


@contextmanager
def kept(line: Line) -> Iterator[http.client.HTTPConnection]:
    """Give a connection that has carried one answer already."""
    with closing(http.client.HTTPConnection("127.0.0.1", line.port, timeout=10)) as connection:
        get(connection)
        yield connection


def get(connection: http.client.HTTPConnection) -> float:
    """Get the whole answer; return how many seconds it took."""
    began = time.monotonic()
    connection.request("GET", "/")
    assert connection.getresponse().read() == BODY
    return time.monotonic() - began


def asked(line: Line) -> socket.socket:
    """Return a new connection over which the question was sent."""
    connection = socket.create_connection(("127.0.0.1", line.port), timeout=10)
    connection.sendall(QUESTION)
    return connection


def read(connection: socket.socket) -> Iterator[bytes]:
    """Give what comes, piece by piece, until the connection is closed in order; close it."""
    with connection:
        while piece := connection.recv(65536):
            yield piece


def test_it_is_toxiproxy_of_the_version_that_is_named(toxiproxy: Toxiproxy) -> None:
    assert toxiproxy.version == wires.VERSION == wires.NEIGHBOUR.version()


def test_whole_it_carries_everything(line: Line) -> None:
    assert b"".join(read(asked(line))).endswith(BODY)


def test_latency_holds_each_answer_back_on_connections_old_and_new(line: Line) -> None:
    with kept(line) as old:
        line.latency(300)
        assert get(old) >= 0.3
        began = time.monotonic()
        with kept(line):
            assert time.monotonic() - began >= 0.3
        line.latency(600)
        assert get(old) >= 0.6
        line.mend()
        until(lambda: get(old) < 0.3, "it is as fast as it was, on the same connection")


def test_bandwidth_lets_so_many_bytes_through_a_second(line: Line) -> None:
    line.bandwidth(100)
    began = time.monotonic()
    with kept(line):
        assert time.monotonic() - began >= 0.9


def test_a_sliced_answer_comes_in_pieces_and_whole(line: Line) -> None:
    line.slice(5_000, microseconds=2_000)
    pieces = list(read(asked(line)))
    assert len(pieces) > 3
    assert b"".join(pieces).endswith(BODY)


def test_a_limited_answer_ends_early_and_in_order(line: Line) -> None:
    line.limit(1_000)
    assert len(b"".join(read(asked(line)))) == 1_000


def test_a_reset_meets_connections_old_and_new(line: Line) -> None:
    with kept(line) as old:
        line.reset()
        for connection in (old.sock, asked(line)):
            with pytest.raises(ConnectionResetError):
                list(read(connection))
    line.mend()
    with kept(line):
        pass


def test_a_reset_in_the_middle_of_an_answer_comes_after_so_many_bytes(line: Line) -> None:
    with kept(line) as old:
        line.reset(after=1_000)
        old.sock.sendall(QUESTION)
        for connection in (old.sock, asked(line)):
            found: list[bytes] = []
            with pytest.raises(ConnectionResetError):
                found.extend(read(connection))
            assert len(b"".join(found)) == 1_000


def test_half_open_it_accepts_and_carries_nothing_and_closes_nothing(line: Line) -> None:
    with kept(line) as old:
        line.half_open()
        old.sock.sendall(QUESTION)
        connections = (old.sock, asked(line))
        for connection in connections:
            connection.settimeout(0.5)
            with pytest.raises(TimeoutError):
                connection.recv(1)
        line.mend()
        for connection in connections:
            connection.settimeout(10)
            assert list(read(connection)) == []
    with kept(line):
        pass


def test_cut_it_resets_what_is_there_and_refuses_what_is_new(line: Line) -> None:
    with kept(line) as old:
        line.cut()
        with pytest.raises(ConnectionResetError):
            list(read(old.sock))
    with pytest.raises(ConnectionRefusedError):
        asked(line)
    line.mend()
    with kept(line):
        pass


def test_a_wire_breaks_alone(wire: Wire, web: int) -> None:
    broken, whole = wire(web), wire(f"127.0.0.1:{web}")
    with kept(whole) as old:
        broken.reset()
        broken.half_open()
        broken.cut()
        get(old)


async def test_postgresql_behind_a_wire_is_asked_lost_and_asked_again(wire: Wire, postgres: Postgres) -> None:
    line = wire(postgres.socket)
    url = url_through(line, postgres)
    connection = await asyncpg.connect(url, timeout=10)
    assert str(await connection.fetchval("SHOW server_version")).startswith("18")
    line.half_open()
    with pytest.raises(TimeoutError):
        await connection.fetchval("SELECT 1", timeout=0.5)
    with pytest.raises(TimeoutError):
        await asyncpg.connect(url, timeout=0.5)
    line.mend()
    connection = await asyncpg.connect(url, timeout=10)
    line.cut()
    with pytest.raises((ConnectionResetError, asyncpg.ConnectionDoesNotExistError)):
        await connection.fetchval("SELECT 1", timeout=10)
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(url, timeout=10)
    line.mend()
    connection = await asyncpg.connect(url, timeout=10)
    await connection.close()


def test_afterwards_nobody_listens(web: int, postgres: Postgres, tmp_path: Path) -> None:
    with wires.running(tmp_path) as toxiproxy, toxiproxy.wires(tmp_path) as lay:
        ports = [lay(web).port, lay(postgres.socket).port]
        for port in ports:
            socket.create_connection(("127.0.0.1", port)).close()
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


SCRIPT = """
import sys
from pathlib import Path
from tests.neighbours import wire
with wire.running(Path(sys.argv[1])) as toxiproxy:
    print(toxiproxy.port, flush=True)
    input()
"""


def test_it_dies_with_a_test_run_that_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        port = int(run.stdout.readline())
        assert listens(port)
        run.kill()
    until(lambda: not listens(port), "toxiproxy has ended")
