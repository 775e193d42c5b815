"""Who answers on a port where OpenBao is meant to be, and is not: for what the real one cannot be made to answer."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress


class Impostor(socketserver.ThreadingTCPServer):
    """Answers each request with `pieces`, one after the other, and closes; `requests` are the heads that it was sent.

    Between two pieces it waits `pause` seconds, or until it is closed.
    """

    daemon_threads = True

    def __init__(self, pieces: Sequence[bytes], *, pause: float = 0.0) -> None:
        self.pieces = pieces
        self.pause = pause
        self.requests: list[bytes] = []
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(socketserver.BaseRequestHandler):
    server: Impostor

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head and (data := self.request.recv(65536)):
            head += data
        self.server.requests.append(head)
        with suppress(OSError):
            for piece in self.server.pieces:
                self.request.sendall(piece)
                if self.server.closing.wait(self.server.pause):
                    return


@contextmanager
def answering(*pieces: bytes, pause: float = 0.0) -> Iterator[Impostor]:
    """Give one that answers while the context lasts."""
    with Impostor(pieces, pause=pause) as impostor:
        thread = threading.Thread(target=impostor.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield impostor
        finally:
            impostor.closing.set()
            impostor.shutdown()
            thread.join()
