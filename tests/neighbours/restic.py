"""restic for the tests: Debian's and a newer one, as a person would use it beside the agent."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from tests.neighbours import golang, neighbour
from tests.neighbours.neighbour import Neighbour, version_of

VERSION = "0.17.3"
"""Of the newer one: it has exit codes of its own for what can go wrong, tells how far a restore is, keeps holes."""
_REPAIR = "apt install restic"
_PROGRAMS = "/usr/local/bin:/usr/bin:/bin"


def program() -> Path:
    """Return Debian's restic; raises `Missing`."""
    return neighbour.program("restic", _REPAIR)


@functools.cache
def newer() -> Path:
    """Return the newer one, built from its Go module; raises `Missing` without Go."""
    return golang.built("restic", "github.com/restic/restic/cmd/restic", module="restic")


def environment(repository: Path, password: str) -> dict[str, str]:
    """Return the whole environment of a restic without a cache."""
    return {
        "PATH": _PROGRAMS,
        "TZ": "UTC",
        "RESTIC_REPOSITORY": str(repository),
        "RESTIC_PASSWORD": password,
        "RESTIC_CACHE_DIR": str(repository.with_name("cache-of-the-tests")),
    }


def run(repository: Path, password: str, *words: str) -> str:
    """Return what Debian's printed; raises AssertionError with what it complained of."""
    done = subprocess.run(
        [program(), *words], env=environment(repository, password), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"restic {' '.join(words)}: {done.stderr}"
    return done.stdout


def obtain() -> None:
    """Build the newer one where that was not done yet: half a minute on two cores."""
    newer()


NEIGHBOURS = (
    Neighbour("restic", "Debian restic", version=lambda: version_of([program(), "version"])),
    Neighbour(
        "a newer restic",
        f"Go module github.com/restic/restic v{VERSION}",
        version=lambda: version_of([newer(), "version"]),
        obtain=obtain,
    ),
)
