"""The wheels that the locks name, for a machine without a network: `make install` finds them by pip's own variables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.neighbours import bare, cache
from tests.neighbours.neighbour import Missing, Neighbour

ROOT = Path(__file__).parents[2]
LOCKS = tuple(ROOT / "requirements" / f"{name}.txt" for name in ("build", "run"))


def directory() -> Path:
    """Return where they are, for the bare Debian's Python; they are downloaded where that was not done yet."""
    python = _python()
    return cache.kept(_NAME, [python, *LOCKS], lambda into: _download(into, python))


def obtain() -> None:
    """Download them."""
    directory()


_NAME = "wheels"


def _python() -> str:
    """Return the version of the bare Debian's Python, as 3.11."""
    return (bare.root() / "usr/bin/python3").readlink().name.removeprefix("python")


def _download(into: Path, python: str) -> None:
    words = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet"]
    if python != "{}.{}".format(*sys.version_info):
        words += ["--only-binary=:all:", f"--python-version={python}"]
    for lock in LOCKS:
        done = subprocess.run(
            [*words, "--require-hashes", "--dest", into, "-r", lock], capture_output=True, text=True, check=False
        )
        if done.returncode:
            message = f"the wheels of {lock.name} cannot be downloaded: {done.stderr.strip()[-500:]}"
            raise Missing(message)


def _version() -> str:
    there = cache.place(_NAME, [_python(), *LOCKS])
    if not there.exists():
        message = "they are not here yet: make neighbours"
        raise Missing(message)
    return f"{len(list(there.glob('*.whl')))} for Python {_python()}"


NEIGHBOUR = Neighbour("wheels of the locks", "the host's package index", version=_version, obtain=obtain)
