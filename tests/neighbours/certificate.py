"""A certificate for a server on the loopback interface, and the authority of the test's own that vouches for it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.neighbours.neighbour import program

_REPAIR = "apt install openssl"
_NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost"


def make(directory: Path) -> Path:
    """Write server.pem and server.key into `directory`, valid for a week, and return the authority's ca.pem.

    Raises `Missing` without openssl.
    """
    ca, key = directory / "ca.pem", directory / "ca.key"
    own = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "7"]
    _openssl("req", "-x509", *own, "-subj", "/CN=homelab-agent tests", "-out", ca, "-keyout", key)
    signed: list[str | Path] = ["-CA", ca, "-CAkey", key, "-subj", "/CN=localhost", "-addext", _NAMES]
    _openssl("req", "-x509", *own, *signed, "-out", directory / "server.pem", "-keyout", directory / "server.key")
    return ca


def _openssl(*words: str | Path) -> None:
    done = subprocess.run(
        [program("openssl", _REPAIR), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
