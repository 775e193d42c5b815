"""Identical events that repeat fast become a few, and then one line that says how many there were."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

BURST = 5
"""How many identical events pass before the rest of their window is counted instead of written."""
WINDOW_SECONDS = 10.0
KINDS_MAX = 1024
"""How many kinds of event are watched at once; beyond it the oldest is let go, its summary written."""

_OF_ONE_EVENT = frozenset({"time", "request_id"})
"""Fields that differ between events that are otherwise the same."""

Fields = Mapping[str, Any]
"""One event: its name, level and values, already plain (text, numbers, lists, objects with text keys)."""


@dataclass(slots=True)
class _Window:
    ends: float
    left: int
    suppressed: int = 0
    last: Fields = field(default_factory=dict)


@dataclass(slots=True)
class Suppression:
    """Decides which events are written; time is handed in, in monotonic seconds.

    Two events are identical when all their fields but the numbers are: a counter, a size or a duration that
    moves does not make an event another one. While a flood goes on each window yields one summary and
    nothing else; it is over when a window passes without anything to suppress.
    """

    _windows: dict[Hashable, _Window] = field(default_factory=dict)

    def admit(self, event: Fields, now: float) -> Iterator[Fields]:
        """Yield what is to be written now: summaries that are due, and `event` unless it is suppressed."""
        yield from self.due(now)
        kind = _kind(event)
        window = self._windows.get(kind)
        if window is None:
            if len(self._windows) >= KINDS_MAX:
                yield from self._let_go(next(iter(self._windows)))
            window = self._windows[kind] = _Window(now + WINDOW_SECONDS, BURST)
        if window.left > 0:
            window.left -= 1
            yield event
        else:
            window.suppressed += 1
            window.last = event

    def due(self, now: float) -> Iterator[Fields]:
        """Yield the summary of each window that has ended: the last event of its kind, with `suppressed`."""
        while self._windows:
            kind, window = next(iter(self._windows.items()))
            if window.ends > now:
                return
            flood = window.suppressed > 0
            yield from self._let_go(kind)
            if flood:
                self._windows[kind] = _Window(now + WINDOW_SECONDS, left=0)

    def next_due(self) -> float | None:
        """Return when the first window ends, None when nothing is watched."""
        return next((window.ends for window in self._windows.values()), None)

    def rest(self) -> Iterator[Fields]:
        """Yield every summary not written yet, due or not; for the end."""
        while self._windows:
            yield from self._let_go(next(iter(self._windows)))

    def _let_go(self, kind: Hashable) -> Iterator[Fields]:
        window = self._windows.pop(kind)
        if window.suppressed:
            yield {**window.last, "suppressed": window.suppressed}


def _kind(event: Fields) -> Hashable:
    return tuple(
        (name, value if isinstance(value, str) else repr(value))
        for name, value in event.items()
        if name not in _OF_ONE_EVENT and (isinstance(value, bool) or not isinstance(value, int | float))
    )
