"""A dump of MariaDB comes in two parts: tables with their rows, and what acts on them; told apart as it streams; pure.

What acts (views, triggers, routines, events) names its database wherever who made it did, so that it would do its work
in the one that lives, whatever the database that it is read into. A dump has no raw line end within a row, so that a
line tells by how it begins what it is of; triggers, routines and events are between `DELIMITER ;;` and `DELIMITER ;`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

_LINE = re.compile(rb"^(?:-- |DELIMITER |/\*!|ALTER DATABASE )[^\n]*\n", re.MULTILINE)
"""A line that may tell of which part it and those after it are."""
_SETTING = re.compile(rb"/\*!4\d+ SET ")
"""Of how the whole dump is read."""
_SECTIONS = (
    b"-- Temporary table structure for view",
    b"-- Final view structure",
    b"-- Dumping events",
    b"-- Dumping routines",
)
_OF_TRIGGERS = (b"ALTER DATABASE ", b"/*!50003 ")
_END = b"DELIMITER ;"


async def tables(pieces: AsyncIterator[bytes], programs: bytearray) -> AsyncIterator[bytes]:
    """Yield what makes and fills tables; what acts on them is added to `programs`, and is a script by itself."""
    telling, held = _Telling(programs), bytearray()
    async for piece in pieces:
        held += piece
        end = held.rfind(b"\n") + 1
        if end:
            yield telling.tables(bytes(held[:end]))
            del held[:end]
    yield telling.tables(bytes(held))


class _Telling:
    """Knows in which part it is from one line to the next."""

    def __init__(self, programs: bytearray) -> None:
        self._programs = programs
        self._section = False
        self._block = False

    def tables(self, lines: bytes) -> bytes:
        found, at = bytearray(), 0
        for match in _LINE.finditer(lines):
            self._add(found, lines[at : match.start()])
            self._tell(found, match[0])
            at = match.end()
        self._add(found, lines[at:])
        return bytes(found)

    def _add(self, found: bytearray, lines: bytes) -> None:
        part = self._programs if self._section or self._block else found
        part += lines

    def _tell(self, found: bytearray, line: bytes) -> None:
        if self._block or line.startswith(b"DELIMITER "):
            self._programs += line
            self._block = line.strip() != _END
        elif _SETTING.match(line):
            self._programs += line
            found += line
        elif line.startswith(_OF_TRIGGERS):
            self._programs += line
        else:
            if line.startswith(b"-- "):
                self._section = line.startswith(_SECTIONS)
            self._add(found, line)
