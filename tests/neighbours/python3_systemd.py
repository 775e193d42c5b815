"""Debian's package python3-systemd, as a file: what a bare machine lacks for native journal fields."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.neighbours import bare, cache
from tests.neighbours.neighbour import Missing, Neighbour, program

_NAME = "python3-systemd"


def package() -> Path:
    """Return the .deb, for the bare Debian; it is downloaded where that was not done yet."""
    return next(cache.kept(_NAME, _made_from(), _download).glob("*.deb"))


def obtain() -> None:
    """Download it."""
    package()


def _made_from() -> list[str]:
    return [bare.root().name]


def _download(into: Path) -> None:
    apt_get = program("apt-get", "only Debian has it")
    into.chmod(0o755)  # apt's own user writes there
    done = subprocess.run([apt_get, "download", _NAME], cwd=into, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"{_NAME} cannot be downloaded: {done.stderr.strip()[-500:]}"
        raise Missing(message)


def _version() -> str:
    if not (found := list(cache.place(_NAME, _made_from()).glob("*.deb"))):
        message = "it is not here yet: make neighbours"
        raise Missing(message)
    return found[0].name.split("_")[1]


NEIGHBOUR = Neighbour(_NAME, "Debian python3-systemd", version=_version, obtain=obtain)
