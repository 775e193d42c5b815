"""What systemd's journal library is built from, for a machine with a compiler and without a network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.neighbours import cache
from tests.neighbours.neighbour import Missing, Neighbour

ROOT = Path(__file__).parents[2]
LOCKS = tuple(ROOT / "requirements" / f"{name}.txt" for name in ("setuptools", "systemd"))


def directory() -> Path:
    """Return where its sources are, and setuptools; they are downloaded where that was not done yet."""
    return cache.kept(_NAME, LOCKS, _download)


def obtain() -> None:
    """Download them."""
    directory()


_NAME = "journal-library"


def _download(into: Path) -> None:
    words = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet"]
    for lock in LOCKS:
        argv = [*words, "--no-deps", "--require-hashes", "--dest", str(into), "-r", str(lock)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            message = f"what {lock.name} names cannot be downloaded: {done.stderr.strip()[-500:]}"
            raise Missing(message)


def _version() -> str:
    if not (found := list(cache.place(_NAME, LOCKS).glob("*.tar.gz"))):
        message = "it is not here yet: make neighbours"
        raise Missing(message)
    return found[0].name.removesuffix(".tar.gz").rpartition("-")[2]


NEIGHBOUR = Neighbour("systemd-python's source", "the host's package index", version=_version, obtain=obtain)
