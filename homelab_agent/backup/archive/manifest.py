"""What is known of an archive: in front of it as about.json, behind it as the manifest, beside it in short.

The manifest is lines of JSON: what about.json says, a line a member in their order, and last what the archive is in
all. So it is written while members are read, and held against them line by line.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from homelab_agent.backup.archive import tar
from homelab_agent.backup.archive.members import Member
from homelab_agent.backup.packed import Packed
from homelab_agent.backup.point import Archive, Content, Contents, Point, verdict
from homelab_agent.backup.settings import ARCHIVE

FORMAT = 1
_FAULTS_MAX = 100

_JSON = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), sort_keys=True)


def about(point: Point) -> bytes:
    """Return about.json, for who finds the archive and nothing else."""
    return _json(
        {
            "format": FORMAT,
            "set": point.set_name,
            "at": point.at.isoformat(),
            "verdict": point.verdict,
            "about": dict(point.about),
            "sources": {source.member: str(source.path) for source in point.sources},
            "dumps": [dump.member for dump in point.dumps],
        }
    )


def line(member: Member) -> bytes:
    """Return a member's line."""
    return _json([member.name, member.kind, member.size, member.sha256])


def total(*, sha256: str, tar_bytes: int, count: int) -> bytes:
    """Return the last line; `sha256` is of the file before the manifest, `count` of all members."""
    return _json({"sha256": sha256, "bytes": tar_bytes, "files": count})


def in_short(about_line: bytes, total_line: bytes, *, sha256: str, stored_bytes: int) -> bytes:
    """Return what lies beside an archive; `sha256` and `stored_bytes` are of the whole file.

    Raises ValueError, KeyError or TypeError where the lines make no sense.
    """
    known = {**json.loads(about_line), **json.loads(total_line)}
    return _json({**known, "tar_sha256": known["sha256"], "sha256": sha256, "stored_bytes": stored_bytes})


def archive(id_: str, short: Mapping[str, Any]) -> Archive:
    """Return what lies beside an archive as one; raises ValueError, KeyError or TypeError where it makes no sense."""
    return Archive(
        id=id_,
        engine=ARCHIVE,
        set_name=str(short["set"]),
        at=datetime.fromisoformat(short["at"]),
        verdict=verdict(str(short["verdict"])),
        sha256=str(short["sha256"]),
        bytes=int(short["bytes"]),
        stored_bytes=int(short["stored_bytes"]),
        files=int(short["files"]),
        manifest=short,
    )


def ends(lines: Iterable[bytes]) -> tuple[bytes, bytes]:
    """Return the first and the last line; raises ValueError where there are no two."""
    all_of_them = iter(lines)
    first, last = next(all_of_them, b""), deque(all_of_them, maxlen=1)
    if not last:
        raise ValueError("its manifest has no end")
    return first, last.pop()


def contents(lines: Iterable[bytes]) -> Contents:
    """Return what a manifest says is in its archive; a second link to a file is what the first is.

    Raises ValueError, KeyError or TypeError where the lines make no sense.
    """
    all_of_them = iter(lines)
    known = json.loads(next(all_of_them, b""))
    files = Packed()
    for one in members(all_of_them):
        if one.kind == "link" and one.sha256 in files:
            files.link(one.name, one.sha256)
        elif one.kind == tar.FILE:
            files.add(one.name, Content(one.size, one.sha256))
    sources = {member: Path(path) for member, path in known["sources"].items()}
    return Contents(sources, known["dumps"], files, known["about"])


def members(lines: Iterable[bytes]) -> Iterator[Member]:
    """Yield the members of which lines tell; raises ValueError or TypeError where they make no sense."""
    for text in lines:
        match json.loads(text):
            case {}:
                return
            case [name, kind, size, sha256]:
                yield Member(str(name), str(kind), int(size), str(sha256))
            case _:
                break
    raise ValueError("its manifest has no end")


class Comparison:
    """Holds what an archive has against the lines of its manifest, one after the other; `faults` say what differs."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self.faults: list[str] = []
        self._lines = lines
        self._is_damaged = False
        self.about = self._next()

    def take(self, member: Member) -> None:
        """Take the next member, as it was read."""
        if self._next() != line(member):
            self._differs(member.name)

    def end(self, total_line: bytes) -> None:
        """Take it that these were all."""
        if (self._next(), self._next()) != (total_line, b"") and not self.faults:
            self._differs("its bytes are not those that were written")

    def _next(self) -> bytes:
        """Return the next line, b"" after the last one."""
        try:
            return next(self._lines, b"")
        except ValueError:
            self._differs("its manifest is damaged")
            self._is_damaged = True
            return b""

    def _differs(self, what: str) -> None:
        if not self._is_damaged and len(self.faults) < _FAULTS_MAX:
            self.faults.append(what)


def _json(data: object) -> bytes:
    return _JSON.encode(data).encode() + b"\n"
