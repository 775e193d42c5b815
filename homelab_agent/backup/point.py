"""One point in time of one set: what an engine stores, and what became of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, cast, get_args

Verdict: TypeAlias = Literal["cold", "crash", "dump", "live", "dirty"]
"""How consistent a copy is.

cold: its writers had ended in order. crash: they were frozen, as in a power cut. dump: the database itself wrote it.
live: read while it was written, which is asked for where that does no harm. dirty: none of these, and never the newest.
"""


def verdict(text: str) -> Verdict:
    """Return the verdict of this name; what is none of ours is `dirty`."""
    return cast("Verdict", text if text in get_args(Verdict) else "dirty")


@dataclass(frozen=True, slots=True)
class Source:
    """A directory or file of the host; `member` is its place in an archive (`volumes/NAME`, `paths/srv/data`)."""

    member: str
    path: Path
    exclude: Sequence[str] = ()
    exclude_caches: bool = False


class Dump(Protocol):
    """What a database writes of itself; `member` is its place (`dumps/NAME.sql`)."""

    @property
    def member(self) -> str:
        """Its place in an archive."""

    def opened(self) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give it piece by piece; the context raises an AgentError where the command fails, also after its output."""


@dataclass(frozen=True, slots=True)
class Point:
    """What is stored together. `about` goes in front of it: set, time, host, images, compose, versions, mode.

    `verdict` is what the copy will be if reading it goes well.
    """

    set_name: str
    at: datetime
    verdict: Verdict
    sources: Sequence[Source] = ()
    dumps: Sequence[Dump] = ()
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Copied:
    """What was read of a point, and is on disk though not yet proven; `partial` is the engine's own name for it."""

    partial: str
    read_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Archive:
    """A copy that counts.

    `id` is unique at its engine; `sha256` of the file for `archive`, the snapshot's id for `restic`; `bytes` as read,
    `stored_bytes` as kept; `manifest` has everything else but the files: about, the sources, the verdict.
    """

    id: str
    engine: str
    set_name: str
    at: datetime
    verdict: Verdict
    sha256: str
    bytes: int
    stored_bytes: int
    files: int
    manifest: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Content:
    """A regular file in an archive: its size in bytes and its SHA-256."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in an archive, as its manifest says; only reading all of it shows whether that is so.

    `sources` leads from each member to where it was read; `files` has all regular files by member.
    """

    sources: Mapping[str, Path]
    dumps: Sequence[str]
    files: Mapping[str, Content]
    about: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Verified:
    """What reading an archive whole has shown; `faults` name each member that is not as it was, or what is wrong."""

    id: str
    files: int
    bytes: int
    faults: Sequence[str] = ()

    @property
    def good(self) -> bool:
        """Whether every byte is as it was."""
        return not self.faults


class Said(Protocol):
    """Is told how far one is: bytes done, of how many (None: not known), and what is done."""

    def __call__(self, done: int, total: int | None, what: str) -> None:
        """Take it; neither blocks nor raises."""


def nobody(done: int, total: int | None, what: str) -> None:
    """Be a `Said` that is told nothing."""


class Engine(Protocol):
    """Keeps copies. Every call raises an AgentError with its repair; none touches a container.

    `copy` is the one that is called while containers are frozen, and does nothing that could wait until they run again.
    """

    @property
    def name(self) -> str:
        """What the configuration calls it: `archive`, or the repository's name."""

    async def room(self, set_name: str, bytes_: int) -> None:
        """Raise `NoRoom` where so many bytes will not fit, before anything is frozen."""

    async def copy(self, point: Point, say: Said) -> Copied:
        """Read everything and have it on disk. Raises `Changed` where a file changed while it was read."""

    async def finish(self, copied: Copied, point: Point, say: Said) -> Archive:
        """Read the copy back, hash each file, and make it count; raises `NotAsWritten`, and it does not count then."""

    async def discard(self, copied: Copied) -> None:
        """Take away what does not count."""

    async def list(self, set_name: str = "") -> Sequence[Archive]:
        """Return what is there, oldest first; also what another host or another life of this agent wrote."""

    async def verify(self, archive_id: str, say: Said) -> Verified:
        """Read one whole and hold it against its manifest."""

    async def contents(self, archive_id: str) -> Contents:
        """Return what is in one, without reading it whole."""

    async def restore(
        self, archive_id: str, into: Path, globs: Sequence[str], say: Said, *, devices: bool = False
    ) -> Verified:
        """Unpack below `into`, by member, hashing in the same pass; what it gives is good only if all of it is.

        Device nodes are for archives that are trusted.
        """

    async def dump(self, archive_id: str, member: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Give a dump piece by piece."""

    async def forget(self, archive_id: str) -> None:
        """Delete one."""

    async def sweep(self) -> Sequence[str]:
        """Take away what a killed run has left, and return what that was."""
