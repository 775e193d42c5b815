"""A stream of tar is read member by member, as GNU tar writes it with --format=posix; all else counts as damage.

What is read here says where members lead before GNU tar unpacks the same bytes, so both must understand them alike:
what two programs could take for two things (types of old, global headers, keys of pax that are not known, names with
a zero byte, links with content) is not read at all. Of a sparse file the content is what is stored: `sparse.py`.

https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html (ustar, extended headers),
https://www.gnu.org/software/tar/manual/html_node/PAX-1.html (sparse files, 1.0).
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

BLOCK = 512
CHUNK = 1024 * 1024
"""Bytes that are asked of the source at once."""

FILE, LINK, SYMLINK, CHARACTERS, BLOCKS, FOLDER, FIFO = "0", "1", "2", "3", "4", "5", "6"
"""Types of members, as a header has them."""

_EXTENDED = b"x"
_TYPES = frozenset(b"0123456")
_EMPTY = bytes(BLOCK)
_MAGIC = b"ustar\x0000"
_OCTAL = re.compile(rb" *([0-7]+)[ \0]*")
_RECORD = re.compile(rb"([1-9][0-9]{0,8}) ([^=]+)=")
_DIGITS_MAX = 18
_EXTENDED_MAX = 16 * 1024 * 1024
_KEYS = frozenset(
    b"path linkpath size uid gid uname gname mtime atime ctime RHT.security.selinux "
    b"GNU.sparse.major GNU.sparse.minor GNU.sparse.name GNU.sparse.realsize".split()
)
_PREFIXES = (b"SCHILY.xattr.", b"SCHILY.acl.")


class Damaged(Exception):
    """The stream is not one that GNU tar has written; says where and why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One member; `target` is where a link leads, `raw` all of its headers.

    `stored` counts the bytes of its content here, `size` those that the file has: in one with holes (`sparse`) more.
    """

    name: str
    type: str
    stored: int
    size: int
    target: str
    raw: bytes
    sparse: bool = False


class Reader:
    """Reads members from `source`, which returns the next bytes, at most so many, b"" at its end."""

    def __init__(self, source: Callable[[int], bytes]) -> None:
        self.taken = 0
        """Bytes of the stream so far."""
        self._source = source
        self._piece = b""
        self._place = 0
        self._left = 0
        self._padding = 0

    def entries(self) -> Iterator[Entry]:
        """Yield each member; raises `Damaged`. Its content may be taken before the next one is asked for."""
        while (header := self._take(BLOCK)) != _EMPTY:
            entry = self._entry(header)
            self._left, self._padding = entry.stored, -entry.stored % BLOCK
            yield entry
            for _ in self.content():
                pass
        self._end()

    def content(self) -> Iterator[memoryview]:
        """Yield what is left of the content of the member that was given last, with what fills its last block.

        `stored` of the entry says how much of it is content.
        """
        self._left += self._padding
        self._padding = 0
        while self._left:
            self._fill()
            piece = memoryview(self._piece)[self._place : self._place + self._left]
            self._place += len(piece)
            self.taken += len(piece)
            self._left -= len(piece)
            yield piece

    def _entry(self, header: bytes) -> Entry:
        raw, known = [header], dict[bytes, bytes]()
        if header[156:157] == _EXTENDED:
            size = self._checked(header)
            if size > _EXTENDED_MAX:
                raise self._damaged("an extended header is too long")
            body = self._take(size + -size % BLOCK)
            known = self._records(body[:size])
            header = self._take(BLOCK)
            raw += [body, header]
        stored = self._checked(header, known.get(b"size"))
        type_ = chr(header[156])
        if header[156] not in _TYPES:
            raise self._damaged(f"a member has type {type_!r}")
        if stored and type_ != FILE:
            raise self._damaged("what is no file has content")
        target = known.get(b"linkpath", _text(header[157:257])) if type_ in {LINK, SYMLINK} else b""
        sparse = any(key.startswith(b"GNU.sparse.") for key in known)
        size = self._decimal(known.get(b"GNU.sparse.realsize", b"")) if sparse else stored
        name = _sparse_name(known) if sparse and type_ == FILE else _name(header, known)
        if not name:
            raise self._damaged("a member has no name")
        return Entry(os.fsdecode(name), type_, stored, size, os.fsdecode(target), b"".join(raw), sparse)

    def _checked(self, header: bytes, size: bytes | None = None) -> int:
        """Return the size that a header says, or what an extended one has said instead."""
        if header[257:265] != _MAGIC or self._number(header[148:156]) != _sum(header):
            raise self._damaged("a header is damaged")
        return self._number(header[124:136]) if size is None else self._decimal(size)

    def _number(self, field: bytes) -> int:
        if (found := _OCTAL.fullmatch(field)) is None:
            raise self._damaged("a number in a header is damaged")
        return int(found[1], 8)

    def _decimal(self, value: bytes) -> int:
        if not value.isdigit() or len(value) > _DIGITS_MAX:
            raise self._damaged("a size is no number")
        return int(value)

    def _records(self, body: bytes) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        place = 0
        while place < len(body):
            head = _RECORD.match(body, place)
            end = place + int(head[1]) if head is not None else 0
            if head is None or not head.end() < end <= len(body) or body[end - 1] != ord("\n"):
                raise self._damaged("an extended header is damaged")
            key, value = head[2], body[head.end() : end - 1]
            is_plain = key in _KEYS
            if key in found or not (is_plain or key.startswith(_PREFIXES)) or (is_plain and b"\0" in value):
                raise self._damaged(f"an extended header says {key!r}")
            found[key] = value
            place = end
        return found

    def _end(self) -> None:
        """Read what follows the first of the two empty blocks: nothing but zeros."""
        if self._take(BLOCK) != _EMPTY:
            raise self._damaged("its end is damaged")
        while self._piece:
            rest = memoryview(self._piece)[self._place :]
            if rest.tobytes().strip(b"\0"):
                raise self._damaged("something follows its end")
            self.taken += len(rest)
            self._piece, self._place = self._source(CHUNK), 0

    def _take(self, count: int) -> bytes:
        taken = self._piece[self._place : self._place + count]
        self._place += len(taken)
        while len(taken) < count:
            self._fill()
            more = self._piece[self._place : self._place + count - len(taken)]
            self._place += len(more)
            taken += more
        self.taken += count
        return taken

    def _fill(self) -> None:
        if self._place == len(self._piece):
            self._piece, self._place = self._source(CHUNK), 0
            if not self._piece:
                raise self._damaged("it ends too early")

    def _damaged(self, why: str) -> Damaged:
        return Damaged(f"{why}, at byte {self.taken} of the unpacked stream")


def _sum(header: bytes) -> int:
    """Return the sum of a header's bytes, those that tell it being spaces.

    The lower half of Adler-32 is one more than the sum, modulo 65521 (RFC 1950), which that of 256 bytes never reaches;
    adding up so takes a quarter of the time, and a header is all that there is of many a file.
    """
    halves = zlib.adler32(header[:256]) & 0xFFFF, zlib.adler32(header[256:]) & 0xFFFF
    return sum(halves) - 2 - sum(header[148:156]) + 8 * ord(" ")


def _name(header: bytes, known: Mapping[bytes, bytes]) -> bytes:
    if b"path" in known:
        return known[b"path"]
    name, prefix = _text(header[:100]), _text(header[345:500])
    return prefix + b"/" + name if prefix else name


def _sparse_name(known: Mapping[bytes, bytes]) -> bytes:
    """Return the name of a sparse file, b"" where it is not of format 1.0."""
    is_known = (known.get(b"GNU.sparse.major"), known.get(b"GNU.sparse.minor")) == (b"1", b"0")
    return known.get(b"GNU.sparse.name", b"") if is_known else b""


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]
