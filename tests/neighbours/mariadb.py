"""MariaDB of Debian: its server and its clients, which tests put into an image."""

from __future__ import annotations

from pathlib import Path

from tests.neighbours import neighbour
from tests.neighbours.neighbour import Neighbour


def server(name: str = "mariadbd") -> Path:
    """Return a program of the server's; raises `Missing`."""
    return neighbour.program(name, "apt install mariadb-server-core")


def client(name: str) -> Path:
    """Return a client; raises `Missing`."""
    return neighbour.program(name, "apt install mariadb-client")


def _version() -> str:
    client("mariadb-dump")
    return neighbour.version_of([server(), "--version"])


NEIGHBOUR = Neighbour("MariaDB", "Debian mariadb-server-core, mariadb-client", version=_version)
