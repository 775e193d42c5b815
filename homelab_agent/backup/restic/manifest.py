"""What an archive holds, file by file with its hash: written as its last snapshot, and held against what comes back."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import stat
import tarfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from homelab_agent.backup.packed import Packed
from homelab_agent.backup.point import Content, Said

FORMAT = 1
_PIECE_BYTES = 1024 * 1024


Tell: TypeAlias = Callable[[int], None]
"""Is told the bytes so far, in a thread."""


@dataclass(frozen=True, slots=True)
class Root:
    """A source: its member, the path that it was read at, in which snapshot."""

    member: str
    path: Path
    snapshot: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that is known of an archive; `dumps` leads from a member to its snapshot.

    In `files` a name that is not UTF-8 has surrogate escapes (PEP 383).
    """

    set_name: str
    at: datetime
    verdict: str
    roots: Sequence[Root]
    dumps: Mapping[str, str]
    files: Packed
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def total_bytes(self) -> int:
        """What all its files take."""
        return sum(file.size for file in self.files.values())

    def values(self) -> dict[str, Any]:
        """Return all but the files as values of JSON."""
        return {
            "format": FORMAT,
            "set": self.set_name,
            "at": self.at.isoformat(),
            "verdict": self.verdict,
            "about": self.about,
            "roots": [[root.member, os.fsdecode(root.path), root.snapshot] for root in self.roots],
            "dumps": self.dumps,
            "files": len(self.files),
        }

    def lines(self) -> Iterator[bytes]:
        """Yield it as lines of JSON: what it is, then each file."""
        yield json.dumps(self.values(), sort_keys=True).encode() + b"\n"
        for member, file in self.files.items():
            yield json.dumps([member, file.size, file.sha256]).encode() + b"\n"

    @classmethod
    def read(cls, lines: Iterable[bytes]) -> Manifest:
        """Read it again; raises ValueError where it is none, or of a later release."""
        all_of_them = iter(lines)
        try:
            values = json.loads(next(all_of_them, b""))
            if values["format"] != FORMAT:
                message = f"its format is {values['format']}, this release reads {FORMAT}"
                raise ValueError(message)
            each = map(json.loads, all_of_them)
            files = Packed((member, Content(size, sha256)) for member, size, sha256 in each)
            if len(files) != values["files"]:
                message = f"it names {len(files)} files of {values['files']}"
                raise ValueError(message)
            return cls(
                set_name=values["set"],
                at=datetime.fromisoformat(values["at"]),
                verdict=values["verdict"],
                roots=[Root(member, Path(path), snapshot) for member, path, snapshot in values["roots"]],
                dumps=values["dumps"],
                files=files,
                about=values["about"],
            )
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(str(error)) from error


class Hashing:
    """Hashes what goes by; `ended` says whether all of it has."""

    def __init__(self) -> None:
        self.ended = False
        self._digest = hashlib.sha256()
        self._size = 0

    @property
    def file(self) -> Content:
        """What has gone by, as a file."""
        return Content(self._size, self._digest.hexdigest())

    def add(self, piece: bytes) -> None:
        """Take what comes next; blocking."""
        self._digest.update(piece)
        self._size += len(piece)

    async def passing(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the same pieces."""
        async for piece in pieces:
            await asyncio.to_thread(self.add, piece)
            yield piece
        self.ended = True


def member_of(path: str, roots: Sequence[Root]) -> str:
    """Return the member that an absolute path without its first slash is; "" where it is of no source."""
    best = ""
    longest = -1
    for root in roots:
        top = os.fsdecode(root.path).strip("/")
        if len(top) > longest and (path == top or path.startswith(f"{top}/" if top else "")):
            below = path[len(top) :].strip("/")
            best, longest = f"{root.member}/{below}" if below else root.member, len(top)
    return best


def hash_tar(source: int, roots: Sequence[Root], said: Tell) -> Packed:
    """Return the regular files of a tar stream that are of these sources, by member, and close it; blocking.

    `said` is told the bytes so far. Raises `tarfile.TarError` where it ends too early.
    """
    files = Packed()
    done = 0
    with (
        os.fdopen(source, "rb") as stream,  # whole pieces: parts of them would leave holes in the heap
        tarfile.open(fileobj=stream, mode="r|", bufsize=_PIECE_BYTES, errors="surrogateescape") as tar,
    ):
        for entry in tar:
            tar.members = []  # type: ignore[attr-defined]  # it would remember every one
            if entry.isreg() and (content := tar.extractfile(entry)) is not None:
                hashing = Hashing()
                while piece := content.read(_PIECE_BYTES):
                    hashing.add(piece)
                    done += len(piece)
                    said(done)
                if member := member_of(entry.name, roots):
                    files.add(member, hashing.file)
        while stream.read(_PIECE_BYTES):
            pass  # restic pads; it is to end by itself
    return files


def hash_tree(top: Path, member: str) -> Iterator[tuple[str, Content]]:
    """Yield the regular files below `top`, or `top` itself, by member; blocking."""
    if not stat.S_ISDIR(top.lstat().st_mode):
        if stat.S_ISREG(top.lstat().st_mode):
            yield member, hash_file(top)
        return
    for folder, _, names in os.walk(top):
        for name in names:
            path = Path(folder, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield f"{member}/{path.relative_to(top)}", hash_file(path)


def hash_file(path: Path) -> Content:
    """Return a file's size and hash; blocking."""
    return hash_stream(path.open("rb", buffering=0))


def hash_stream(stream: BinaryIO) -> Content:
    """Return the size and hash of what is read until its end, and close it; blocking."""
    hashing = Hashing()
    with stream:
        while piece := stream.read(_PIECE_BYTES):
            hashing.add(piece)
    return hashing.file


def differences(written: Mapping[str, Content], found: Mapping[str, Content]) -> list[str]:
    """Return what is not as it was written, member by member."""
    faults = [f"{member} is missing" for member in sorted(written.keys() - found.keys())]
    faults += [f"{member} was not there" for member in sorted(found.keys() - written.keys())]
    both = sorted(written.keys() & found.keys())
    return faults + [f"{member} is not as it was" for member in both if written[member] != found[member]]


def counted(say: Said, total: int | None, what: str, loop: asyncio.AbstractEventLoop) -> Tell:
    """Return what a thread tells its bytes to: each 8 MiB are said, on the loop."""
    step = 8 * _PIECE_BYTES
    last = -step

    def tell(done: int) -> None:
        nonlocal last
        if done - last >= step:
            last = done
            loop.call_soon_threadsafe(say, done, total, what)

    return tell
