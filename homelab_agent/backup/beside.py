"""A directory that is there whole or not at all, and dumps in it as the files that they were before they were cut."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from homelab_agent.backup import joined
from homelab_agent.backup.point import Contents
from homelab_agent.core import statefile
from homelab_agent.core.errors import AgentError, Exit


class PlaceNotEmpty(AgentError):
    """{place} is not an empty directory, nor a new one."""

    repair = "name another one with --to"
    exit_code = Exit.USAGE


def begun(place: Path) -> Path:
    """Return a new directory on the place's file system; raises `PlaceNotEmpty`; blocking."""
    check(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))


def check(place: Path) -> None:
    """Raise `PlaceNotEmpty` where a directory cannot be put."""
    if place.is_symlink() or (place.exists() and (not place.is_dir() or any(place.iterdir()))):
        raise PlaceNotEmpty(place=place)


def put(beside: Path, place: Path) -> None:
    """Have the place be what was begun for it; durable on return; blocking."""
    with suppress(FileNotFoundError):
        place.rmdir()
    beside.rename(place)
    statefile.sync_directory(place.parent)


def join(top: Path, contents: Contents) -> None:
    """Have each dump below `top` that is there in all its pieces be one file under its own name; blocking."""
    for dump in contents.dumps:
        names = joined.members(contents, dump)
        if names != [dump] and all((top / name).is_file() for name in names):
            whole = top / f"{dump}.whole"
            first, *rest = [top / name for name in names]
            first.rename(whole)
            with whole.open("ab") as file:
                for piece in rest:
                    joined.copy([piece], file)
                    piece.unlink()
                file.flush()
                os.fsync(file.fileno())
            (top / dump).rmdir()
            whole.rename(top / dump)
