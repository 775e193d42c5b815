"""The host that is sampled: where its /proc and /sys are, and how they are read cheaply."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path

from homelab_agent.core.errors import AgentError
from homelab_agent.metrics.entity import Entities

_CHUNK = 32768
_GONE = {errno.ENODEV, errno.ESTALE, errno.ENXIO}


class NotAvailable(AgentError):
    """The host has no {what}."""


class File:
    """A file under /proc or /sys: opened once, read anew from its start each time.

    Opening costs several times what reading does. /proc/net stays the network namespace's in which it was
    opened.
    """

    __slots__ = ("_descriptor", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def read(self) -> bytes:
        """Return the whole content; raises OSError. A device that went away is opened anew the next time."""
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = chunk = os.pread(self._descriptor, _CHUNK, 0)
            while chunk:  # files of many records come a page at a time
                chunk = os.pread(self._descriptor, _CHUNK, len(content))
                content += chunk
        except OSError as error:
            if error.errno in _GONE:
                self.close()
            raise
        return content

    def number(self) -> int | None:
        """Return the whole number that it holds now; None when it holds none, or cannot be read."""
        try:
            return int(self.read())
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        """Close it; a later read opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Host:
    """What a collector is given. `monotonic` in seconds; `root` is / except for recorded trees."""

    name: str
    root: Path = Path("/")
    monotonic: Callable[[], float] = time.monotonic
    entities: Entities = dataclass_field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "entities", Entities(self.name))

    def file(self, path: str) -> File:
        """Return a file that will be read often; `path` without the leading slash."""
        return File(self.root / path)

    def path(self, path: str | Path) -> Path:
        """Return where an absolute path of that host lies."""
        return self.root / str(path).lstrip("/")


def text(path: Path) -> str:
    """Return a small file's content without its line end; "" when it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8", "replace").strip()
    except OSError:
        return ""


def links(directory: Path) -> Sequence[tuple[str, str]]:
    """Return the links in a directory by name, each with the last part of where it leads; none without it.

    What is no link, or is gone before it is read, is left out.
    """
    found = []
    try:
        paths = sorted(directory.iterdir())
    except OSError:  # no udev: a container
        return ()
    for path in paths:
        with contextlib.suppress(OSError):
            found.append((path.name, path.readlink().name))
    return found


def number(path: Path) -> int | None:
    """Return the whole number that a small file holds; None when it holds none."""
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):
        return None


def field(content: bytes, name: bytes) -> int | None:
    """Return the whole number that follows `name` in a file of names and numbers; None without it."""
    at = content.find(name)
    if at < 0:
        return None
    return int(content[at + len(name) : at + len(name) + 32].split(None, 1)[0])
