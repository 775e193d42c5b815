"""What is in an archive, read once from its first byte to its last; for a thread of its own.

What is unpacked goes to tar only when it is known where it leads: nothing leaves the place that it is unpacked to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from homelab_agent.backup.archive import tar
from homelab_agent.backup.archive.sparse import Expansion

_TOPS = frozenset({"about.json", "restore.sh", "dumps", "volumes", "paths"})


class Leaves(Exception):
    """A member leads out of the place that it is unpacked to."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member, and the SHA-256 of what a file holds, holes included; where a link leads, "" for what is neither."""

    name: str
    kind: str
    size: int
    sha256: str


def members(
    reader: tar.Reader,
    *,
    devices: bool,
    told: Callable[[int], None],
    give: Callable[[bytes | memoryview], object] | None = None,
) -> Iterator[Member]:
    """Yield each member when it was read whole; with `devices` nodes may be among them.

    `told` is told how much of the stream was read; `give` gets the stream but for what fills it up at its end, in
    order, and of no member a byte before it is known where it leads. Raises `Leaves`, `tar.Damaged` and what `told`,
    `give` and the reader's source raise.
    """
    guard = _Guard(devices=devices)
    for entry in reader.entries():
        guard.check(entry)
        if give is not None:
            give(entry.raw)
        yield _read(reader, entry, told, give)
    if give is not None:
        give(bytes(2 * tar.BLOCK))


def _read(
    reader: tar.Reader,
    entry: tar.Entry,
    told: Callable[[int], None],
    give: Callable[[bytes | memoryview], object] | None,
) -> Member:
    if entry.type != tar.FILE:
        return Member(entry.name, "link" if entry.type == tar.LINK else entry.type, 0, entry.target)
    found = hashlib.sha256()
    expansion = Expansion(entry.name, entry.size, found.update) if entry.sparse else None
    take = found.update if expansion is None else expansion.take
    left = entry.stored
    for piece in reader.content():
        if give is not None:
            give(piece)
        take(piece[:left])
        left -= min(left, len(piece))
        told(reader.taken)
    if expansion is not None:
        expansion.end()
    return Member(entry.name, entry.type, entry.size, found.hexdigest())


class _Guard:
    """Refuses what would be written elsewhere: by its name, or through a link that came before it."""

    def __init__(self, *, devices: bool) -> None:
        self._devices = devices
        self._links: set[str] = set()

    def check(self, entry: tar.Entry) -> None:
        path = _inside(entry.name)
        if path in self._links or self._is_beyond(path):
            raise Leaves(entry.name)
        if entry.type == tar.SYMLINK:
            self._links.add(path)
        if entry.type == tar.LINK:
            target = _inside(entry.target)
            if self._is_beyond(target):
                raise Leaves(entry.name)
            if target in self._links:  # a second name of the link itself, as in trees made by `cp -al`
                self._links.add(path)
        if entry.type in {tar.CHARACTERS, tar.BLOCKS} and not self._devices:
            raise Leaves(entry.name)

    def _is_beyond(self, path: str) -> bool:
        """Return whether one of the folders above is a link."""
        return bool(self._links) and not self._links.isdisjoint(above(path))


def above(path: str) -> Iterator[str]:
    """Yield the folders that a member is in, the inmost first."""
    while path := path.rpartition("/")[0]:
        yield path


def _inside(name: str) -> str:
    """Return the one way to write a name that leads to the same place."""
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if name.startswith("/") or ".." in parts or not parts or parts[0] not in _TOPS:
        raise Leaves(name)
    return "/".join(parts)
