"""What a sparse file holds, told from what tar stores of it: a map of its parts, then these.

https://www.gnu.org/software/tar/manual/html_node/PAX-1.html
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from homelab_agent.backup.archive.tar import BLOCK, CHUNK, Damaged

_LINE_MAX = 20
_MAP_MAX = 64 * 1024 * 1024
"""Bytes; more than GNU tar writes for a file of a million holes."""
_HOLE = memoryview(bytes(CHUNK))


class Expansion:
    """Takes what is stored, and hands what the file holds to `update`, holes as zeros."""

    def __init__(self, name: str, size: int, update: Callable[[memoryview], object]) -> None:
        """`size` counts the file's bytes."""
        self._name = name
        self._size = size
        self._update = update
        self._map = bytearray()
        self._lines = 0
        self._is_mapped = False
        self._parts: deque[tuple[int, int]] = deque()
        self._place = 0

    def take(self, piece: memoryview) -> None:
        """Take what is stored next; raises `Damaged`."""
        if not self._is_mapped:
            piece = self._read_map(piece)
        while piece:
            if not self._parts:
                raise self._damaged("holds more than its map says")
            begin, end = self._parts[0]
            self._skip_to(begin)
            part = piece[: end - self._place]
            self._update(part)
            self._place += len(part)
            piece = piece[len(part) :]
            if self._place == end:
                self._parts.popleft()

    def end(self) -> None:
        """Take it that there is no more; raises `Damaged` where there should be."""
        if not self._is_mapped or self._parts:
            raise self._damaged("holds less than its map says")
        self._skip_to(self._size)

    def _read_map(self, piece: memoryview) -> memoryview:
        """Return what follows the map: it is decimal numbers, a line each, and zeros to the end of a block."""
        self._map += piece
        self._lines += bytes(piece).count(b"\n")
        if len(self._map) > _MAP_MAX + CHUNK or (not self._lines and len(self._map) > _LINE_MAX):
            raise self._damaged("has a map that does not end")
        wanted = 1 + 2 * self._number(self._map[: self._map.index(b"\n")]) if self._lines else 1
        if wanted > _MAP_MAX:
            raise self._damaged("has a map that does not end")
        if self._lines < wanted:
            return memoryview(b"")
        *lines, rest = self._map.split(b"\n", wanted)
        used = len(self._map) - len(rest)
        used += -used % BLOCK
        if len(self._map) < used:
            return memoryview(b"")
        numbers = [self._number(line) for line in lines[1:]]
        self._lay_out(list(zip(numbers[::2], numbers[1::2], strict=True)))
        self._is_mapped = True
        stored = memoryview(bytes(self._map[used:]))
        self._map.clear()
        return stored

    def _lay_out(self, parts: Sequence[tuple[int, int]]) -> None:
        reached = 0
        for offset, length in parts:
            if offset < reached or offset + length > self._size:
                raise self._damaged("has a map that makes no sense")
            reached = offset + length
        self._parts.extend((offset, offset + length) for offset, length in parts if length)

    def _skip_to(self, place: int) -> None:
        while self._place < place:
            hole = _HOLE[: place - self._place]
            self._update(hole)
            self._place += len(hole)

    def _number(self, line: bytes | bytearray) -> int:
        if not line.isdigit() or len(line) >= _LINE_MAX:
            raise self._damaged("has a map that is damaged")
        return int(line)

    def _damaged(self, why: str) -> Damaged:
        return Damaged(f"the sparse file {self._name} {why}")
