"""What runs print: the last lines of each, numbered, for who follows along, comes late or comes back.

It is an observation: in memory alone, within bounds. What is promised of a run is its record.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from homelab_agent.core.feed import Feed
from homelab_agent.core.jobs.run import RunRecord

LINES_MAX = 10_000
BYTES_MAX = 1024 * 1024
"""So much of a run's output is kept, in UTF-8; what comes beyond it drops the oldest."""

PART_BYTES = 64 * 1024
"""So much is given at once."""


@dataclass(frozen=True, slots=True)
class Part:
    """Lines in a row; `upto` is how many had been printed with the last of them."""

    lines: tuple[str, ...]
    upto: int


class Output:
    """The last lines that one run printed; `printed` is how many there were."""

    def __init__(self, *, lines_max: int = LINES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self.printed = 0
        self._lines_max = lines_max
        self._bytes_max = bytes_max
        self._kept: deque[bytes] = deque()
        self._size = 0

    def add(self, line: str) -> None:
        """Take the next line."""
        data = line.encode("utf-8", "replace")
        self._kept.append(data)
        self._size += len(data)
        self.printed += 1
        while len(self._kept) > self._lines_max or self._size > self._bytes_max:
            self._size -= len(self._kept.popleft())

    def after(self, seen: int) -> Part:
        """Return what follows the first `seen` lines, or the first part of it; what was dropped is told in its place.

        Asked again for what follows `upto`, it gives all there is, until nothing more has been printed.
        """
        dropped = self.printed - len(self._kept)
        lines = [f"... {_count(dropped - seen)} dropped"] if seen < dropped else []
        upto, size = max(seen, dropped), 0
        for data in islice(self._kept, upto - dropped, None):
            if size and size + len(data) > PART_BYTES:
                break
            lines.append(data.decode())
            upto, size = upto + 1, size + len(data)
        return Part(tuple(lines), upto)


@dataclass(slots=True, eq=False)
class Watched:
    """A run as who follows it sees it: its record as it stands, and its output.

    When either is another than before, `news` is published. All that a run prints comes before the record that says
    that it has ended.
    """

    record: RunRecord
    output: Output = field(default_factory=Output)
    news: Feed[None] = field(default_factory=lambda: Feed(backlog=1))

    def say(self, line: str) -> None:
        """Take the next line of output."""
        self.output.add(line)
        self.news.publish(None)


def _count(lines: int) -> str:
    return "1 line was" if lines == 1 else f"{lines} lines were"
