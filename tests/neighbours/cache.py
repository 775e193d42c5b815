"""What is built or downloaded for the tests, once: kept outside the checkout, by the hash of what it is made from."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path


def directory() -> Path:
    """Return where it is kept: `HOMELAB_AGENT_TEST_CACHE`, else in the user's cache."""
    named = os.environ.get("HOMELAB_AGENT_TEST_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = Path(named) if named else base / "homelab-agent-tests"
    found.mkdir(parents=True, exist_ok=True)
    return found


def place(name: str, made_from: Iterable[Path | str]) -> Path:
    """Return the directory of what is made from these files (a lock, a recipe) and words; it need not exist yet."""
    digest = hashlib.sha256()
    for source in made_from:
        digest.update(source.read_bytes() if isinstance(source, Path) else source.encode())
        digest.update(b"\0")
    return directory() / f"{name}-{digest.hexdigest()[:16]}"


def kept(name: str, made_from: Iterable[Path | str], make: Callable[[Path], None]) -> Path:
    """Return the directory of that name; where it is not there yet, `make` fills it.

    Whoever comes at the same time waits. What was cut short leaves nothing that looks whole; what the same name was
    made from before is removed.
    """
    found = place(name, made_from)
    with (directory() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=directory()))
            try:
                make(unfinished)
                unfinished.chmod(0o755)
                unfinished.rename(found)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
            for older in directory().glob(f"{name}-" + "[0-9a-f]" * 16):
                if older != found:
                    shutil.rmtree(older, ignore_errors=True)
    return found
