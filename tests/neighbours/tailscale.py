"""Tailscale's programs, the real ones, built from their Go module, and an environment in which they stay at home."""

from __future__ import annotations

import functools
from pathlib import Path

from tests.neighbours import golang

VERSION = "1.102.3"
MODULE = "tailscale.com"
_STAMPS = " ".join(f"-X {MODULE}/version.{name}Stamp={VERSION}" for name in ("short", "long"))
_SEALED = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "TS_NO_LOGS_NO_SUPPORT": "true",
    "TS_DISABLE_PORTMAPPER": "true",
    "TS_PANIC_IF_HIT_MAIN_CONTROL": "true",
    "TS_DEBUG_ACME_DIRECTORY_URL": "http://127.0.0.1:9/",  # nobody there; another than the usual lets any CA count
}


@functools.cache
def built(name: str) -> Path:
    """Return `tailscale` or `tailscaled`; raises `Missing` without Go."""
    return golang.built(name, f"{MODULE}/cmd/{name}", module="tailnet", flags=(f"-ldflags=-s -w {_STAMPS}",))


def environment(home: Path) -> dict[str, str]:
    """Return the whole environment of what belongs to a tailnet of the tests."""
    return {**_SEALED, "HOME": str(home), "TS_LOGS_DIR": str(home)}
