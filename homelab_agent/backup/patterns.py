"""Globs of members, also as restic's patterns of paths: what is left out, and what is restored.

A glob stands for members from the top of an archive (`volumes/app/**`), or of what is read from the top of its source
(`cache/*`): `*`, `?` and `[a-z]` within one name, `**` any number of folders. A folder that fits is taken whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePosixPath

from homelab_agent.backup import reserved
from homelab_agent.backup.point import Source

PLACES_MAX = 16
"""Each is one more start of restic, of about half a second."""

_ANY = "**"


def escaped(path: Path) -> str:
    """Return a pattern that stands for this path alone."""
    return re.sub(r"([\\*?\[\]])", r"\\\1", str(path))


def left_out(source: Source, path: Path) -> Iterator[str]:
    """Yield what `--exclude` takes for a source that is read at `path`: with its globs, what restores keep there."""
    yield from reserved.GLOBS
    for glob in source.exclude:
        yield f"{escaped(path)}/{glob.strip('/')}"


def included(globs: Sequence[str], roots: Iterable[tuple[str, Path]]) -> Iterator[str]:
    """Yield what `--include` takes for globs of members, given each source's member and the path it was read at."""
    for member, path in roots:
        for glob in globs:
            for rest in sorted(_rest(_parts(glob), tuple(member.split("/")))):
                yield "/".join([escaped(path), *rest])


def chosen(member: str, globs: Sequence[str]) -> bool:
    """Return whether a member is one of those that the globs stand for; no glob at all is every member."""
    return not globs or any(() in _rest(_parts(glob), tuple(member.split("/"))) for glob in globs)


@dataclass(frozen=True, slots=True)
class Places:
    """What of a snapshot is to be read again, as absolute paths: single files, and folders with all that is in them."""

    files: frozenset[str] = frozenset()
    folders: frozenset[str] = frozenset()

    def hold(self, path: str) -> bool:
        """Return whether an absolute path is one of them, or inside."""
        return path in self.files or any(str(above) in self.folders for above in PurePosixPath(path).parents)


def places(changes: Iterable[tuple[str, str]], most: int = PLACES_MAX) -> Places:
    """Return what holds all that two snapshots differ in, in at most `most` places, none of them inside another.

    A change is restic's letter with a path (`restic diff --json`). Of what was added one cannot tell whether it is a
    file, so that its folder is read; and where a name is not UTF-8 the JSON has a mark in its place, so that the folder
    above is.
    """
    files, folders = set(), set()
    for letter, name in changes:
        path = PurePosixPath(name)
        if _readable(path) != path:
            folders.add(_readable(path))
        elif letter == "M":
            files.add(path)
        elif letter != "-":
            folders.add(path.parent)
    while len(files) + len(folders) > most:
        depth = max(len(place.parts) for place in files | folders)
        deepest = {place for place in files | folders if len(place.parts) == depth}
        folders = (folders - deepest) | {place.parent for place in deepest}
        files -= deepest
    folders = {place for place in folders if not any(above in folders for above in place.parents)}
    files = {place for place in files if not any(above in folders for above in place.parents)}
    return Places(frozenset(map(str, files)), frozenset(map(str, folders)))


def _readable(place: PurePosixPath) -> PurePosixPath:
    """Return the path, or the folder above it whose name is known."""
    while "\ufffd" in str(place):
        place = place.parent
    return place


@lru_cache(256)
def _parts(glob: str) -> tuple[str, ...]:
    return tuple(glob.strip("/").split("/"))


def _rest(parts: tuple[str, ...], names: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Return what of a glob is still to fit below `names`; the empty tuple: all of it."""
    if not parts:
        return {()}
    if not names:
        return {parts}
    if parts[0] == _ANY:
        return _rest(parts[1:], names) | _rest(parts, names[1:])
    return _rest(parts[1:], names[1:]) if fnmatchcase(names[0], parts[0]) else set()
