"""Neighbours that are Go programs: built once from this folder's modules, with their checksums."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.neighbours import cache
from tests.neighbours.neighbour import Missing, program

MODULES = Path(__file__).parent / "go"
REPAIR = "install Go 1.26 or newer (https://go.dev/dl/)"


def built(
    name: str, package: str, *, module: str = ".", flags: tuple[str, ...] = (), env: Mapping[str, str] | None = None
) -> Path:
    """Return the program made of `package` in `go/<module>`; it is built where that was not done yet."""
    directory = MODULES / module

    def build(into: Path) -> None:
        build_in(directory, name, package, into, flags=flags, env=env)

    own = sorted((directory / package).glob("*.go"))  # a program of somebody else's has none here
    sources = [*own, directory / "go.mod", directory / "go.sum"]
    return cache.kept(name, [*sources, package, *flags], build) / name


def build_in(
    directory: Path,
    name: str,
    package: str,
    into: Path,
    *,
    flags: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
) -> None:
    """Build `package` of the module in that directory as `into/name`; raises `Missing` where that fails."""
    go(directory, name, "build", "-trimpath", "-ldflags=-s -w", *flags, "-o", str(into / name), package, env=env)


def go(directory: Path, name: str, *words: str, env: Mapping[str, str] | None = None) -> str:
    """Run Go there, for that program, and return what it printed; raises `Missing` where it fails."""
    where = [*os.environ["PATH"].split(":"), "/usr/local/go/bin"]
    done = subprocess.run(
        [program("go", REPAIR, path=":".join(where)), *words],
        cwd=directory,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        message = f"{name} cannot be built: {done.stderr.strip()[-500:]}"
        raise Missing(message)
    return done.stdout
