"""The frame at an archive's end, which readers of zstd pass over: lines, written and read one after the other.

It is found from the file's end by its own last bytes. So neither who writes it nor who reads it ever holds it whole,
however many lines there are.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, BinaryIO, cast

import zstandard

_HEAD = struct.Struct("<II")
_MAGIC = 0x184D2A50
"""Begins a frame that every reader of zstd passes over (RFC 8878, 3.1.2)."""
_FRAME_MAX = (1 << 32) - 1
_TRAILER = struct.Struct("<Q8s")
_TRAILER_MAGIC = b"homelab1"
_PIECE = 64 * 1024
_PIECES_MAX = 2048
"""Of one line: more than a name takes that tar stores."""


class Appendix:
    """Writes the frame behind the first `begin` bytes of a file, which somebody else may read meanwhile."""

    def __init__(self, file: BinaryIO, begin: int) -> None:
        self._descriptor = file.fileno()
        self._begin = begin
        self._end = begin + _HEAD.size
        self._waiting = bytearray()
        self._lines = hashlib.sha256()
        self._compressor = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()

    def add(self, line: bytes) -> None:
        """Take a line, which ends with the only line break in it; raises OSError."""
        self._waiting += line
        if len(self._waiting) >= _PIECE:
            self._compress()

    def close(self) -> int:
        """Have all of it on disk, and return its length; raises OSError."""
        self._compress()
        self._put(self._compressor.flush())
        packed = self._end - self._begin - _HEAD.size
        self._put(_TRAILER.pack(packed, _TRAILER_MAGIC))
        if packed + _TRAILER.size > _FRAME_MAX:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        os.pwrite(self._descriptor, _HEAD.pack(_MAGIC, packed + _TRAILER.size), self._begin)
        os.fsync(self._descriptor)
        return self._end - self._begin

    def is_what_is_read(self, held: Held | None) -> bool:
        """Return whether the lines of a frame are those that were taken; raises OSError."""
        read = hashlib.sha256()
        with suppress(ValueError):
            for line in () if held is None else held.lines():
                read.update(line)
        return read.digest() == self._lines.digest()

    def _compress(self) -> None:
        self._lines.update(self._waiting)
        self._put(self._compressor.compress(bytes(self._waiting)))
        self._waiting.clear()

    def _put(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            count = os.pwrite(self._descriptor, left, self._end)
            self._end += count
            left = left[count:]


@dataclass(frozen=True, slots=True)
class Held:
    """A frame that was found: it begins at `begin`, and is the rest of the file, which has `size` bytes."""

    descriptor: int
    begin: int
    size: int

    def lines(self) -> Iterator[bytes]:
        """Yield its lines, each with its line break; raises ValueError where they are damaged, OSError.

        Some damage makes them end too early, without a word: what the last line should be knows who has written it.
        Where the descriptor stands does not matter, and does not change.
        """
        try:
            yield from self._lines()
        except zstandard.ZstdError as error:
            raise ValueError("its manifest is damaged") from error

    def _lines(self) -> Iterator[bytes]:
        packed = _Part(self.descriptor, self.begin + _HEAD.size, self.size - _TRAILER.size)
        reader = zstandard.ZstdDecompressor().stream_reader(cast("IO[bytes]", packed), read_size=_PIECE)
        begun: list[bytes] = []
        while piece := reader.read(_PIECE):
            *ends, rest = piece.split(b"\n")
            for end in ends:
                yield b"".join((*begun, end, b"\n"))
                begun.clear()
            begun.append(rest)
            if len(begun) > _PIECES_MAX:
                raise ValueError("a line of its manifest does not end")
        if any(begun):
            raise ValueError("its manifest ends in the middle of a line")


class _Part:
    """What lies between two places of a file, to be read once."""

    def __init__(self, descriptor: int, place: int, end: int) -> None:
        self._descriptor = descriptor
        self._place = place
        self._end = end

    def read(self, size: int = -1) -> bytes:
        left = self._end - self._place
        data = os.pread(self._descriptor, left if size < 0 else min(size, left), self._place)
        self._place += len(data)
        return data


def found(file: BinaryIO) -> Held | None:
    """Return the frame at a file's end; None where there is none that makes sense."""
    descriptor = file.fileno()
    size = os.fstat(descriptor).st_size
    if size < _HEAD.size + _TRAILER.size:
        return None
    packed, magic = _TRAILER.unpack(os.pread(descriptor, _TRAILER.size, size - _TRAILER.size))
    begin = size - _TRAILER.size - packed - _HEAD.size
    if magic != _TRAILER_MAGIC or begin < 0 or packed + _TRAILER.size > _FRAME_MAX:
        return None
    if os.pread(descriptor, _HEAD.size, begin) != _HEAD.pack(_MAGIC, packed + _TRAILER.size):
        return None
    return Held(descriptor, begin, size)
