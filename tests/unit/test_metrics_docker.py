"""What is no answer of Docker's is said to be none, in time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from homelab_agent.core.errors import Exit
from homelab_agent.metrics import docker
from homelab_agent.metrics.docker import DockerSilent


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """Answer one request with these bytes, and end the connection: what no real engine can be made to say."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def once() -> None:
            with server.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=once)
        thread.start()
        yield
        thread.join()


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"", "closed connection"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nbusy", "503 busy"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{[}", "Expecting"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n[", "IncompleteRead"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n[{"Names": []}]', "Id"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"no": 404}', "TypeError"),
        (b"SSH-2.0-OpenSSH\r\n", "SSH"),
    ],
)
def test_rubbish_is_no_answer(tmp_path: Path, answer: bytes, cause: str) -> None:
    with answering(tmp_path / "docker.sock", answer), pytest.raises(DockerSilent) as raised:
        docker.containers(tmp_path / "docker.sock", patience=5)
    assert cause in str(raised.value)
    assert raised.value.exit_code is Exit.UNREACHABLE


def test_an_engine_that_hangs_or_is_not_there_is_said_in_time(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "docker.sock"))
        server.listen()
        with pytest.raises(DockerSilent, match="timed out"):
            docker.containers(tmp_path / "docker.sock", patience=0.1)
    with pytest.raises(DockerSilent, match="No such file"):
        docker.containers(tmp_path / "none.sock")
