"""Ports of the loopback interface: each is one test's alone, also when several runs go on at once."""

from __future__ import annotations

import fcntl
import os
import random
import socket
from contextlib import suppress

from tests.neighbours import cache

_reserved: dict[int, int] = {}


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on, and that no other test run is given."""
    reservations = cache.directory() / "ports"
    reservations.mkdir(exist_ok=True)
    while True:
        port = random.randrange(20_000, 32_000)  # below those that the kernel gives to clients
        descriptor = os.open(reservations / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            os.close(descriptor)
            continue
        _reserved[port] = descriptor  # held until this process ends
        return port


def listens(port: int) -> bool:
    """Return whether somebody listens on a port of the loopback interface."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False
