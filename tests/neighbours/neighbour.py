"""What every neighbour says of itself: where it comes from, how it is obtained, and which version is here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


class Missing(Exception):
    """A neighbour that cannot be had here: why, and what would bring it.

    A test that needs it is skipped; in CI it fails.
    """


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One server or tool: `obtain` brings it, once; `version` tells which one is here, or raises `Missing`.

    `obtain` raises `Missing` where it cannot be brought: no root, no Debian, no compiler.
    """

    name: str
    source: str
    version: Callable[[], str]
    obtain: Callable[[], None] = lambda: None


def program(name: str, repair: str, *, path: str = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin") -> Path:
    """Return the system's own program of that name; raises `Missing` with what installs it."""
    found = shutil.which(name, path=path)
    if found is None:
        message = f"{name} is not installed: {repair}"
        raise Missing(message)
    return Path(found)


def version_of(argv: Sequence[str | Path], pattern: str = r"\d+(\.\d+)+") -> str:
    """Return the version that a program prints."""
    said = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    found = re.search(pattern, said.stdout + said.stderr)
    return found[0] if found else (said.stdout + said.stderr).strip()[:60]


def need_root(what: str) -> None:
    """Raise `Missing` for who is not root."""
    if os.geteuid() != 0:
        message = f"{what} needs root"
        raise Missing(message)
