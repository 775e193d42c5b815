"""One thing that happened, and the order of many: by time, but for what was a cause, which comes first."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from typing import TypeAlias


class Standing(StrEnum):
    """What became of it."""

    DONE = "done"
    FAILED = "failed"
    UNDER_WAY = "under way"


@dataclass(frozen=True, slots=True)
class Entry:
    """It stands at `at`, when it began, with what became of it; `until` is its end, None for what has no length.

    `name` is what others call it in `after` (what came before it as a cause) and `before` (what it was a cause of);
    either may name what is not in the list. `id` is what `ask`, a command, is given to tell more.
    """

    name: str
    at: datetime
    host: str
    kind: str
    text: str
    id: str = ""
    ask: str = ""
    standing: Standing = Standing.DONE
    until: datetime | None = None
    after: Collection[str] = ()
    before: Collection[str] = ()


_Graph: TypeAlias = Mapping[str, set[str]]


def ordered(entries: Iterable[Entry]) -> Sequence[Entry]:
    """Return entries by time, each after all its causes, at whatever time their clocks had them happen.

    At one time causes come first. The order does not depend on that of the `entries`.
    """
    known = {entry.name: entry for entry in entries}
    graph = _graph(known.values())
    places: dict[str, tuple[datetime, int]] = {}
    sorter = TopologicalSorter(graph)
    with suppress(CycleError):  # what is no order stands at its own time
        sorter.prepare()
    while ready := sorter.get_ready():
        for name in ready:
            latest = max((places[cause] for cause in graph.get(name, ()) if cause in places), default=None)
            own = known.get(name)
            if own is not None and (latest is None or own.at > latest[0]):
                places[name] = (own.at, 0)
            elif latest is not None:
                places[name] = (latest[0], latest[1] + 1)
        sorter.done(*ready)

    def place(entry: Entry) -> tuple[datetime, int, datetime, str]:
        at, depth = places.get(entry.name, (entry.at, 0))
        return at, depth, entry.at, entry.name

    return sorted(known.values(), key=place)


def causes(entries: Sequence[Entry]) -> Mapping[str, Sequence[str]]:
    """Return by entry's name the entries that were its causes, also by way of what is not in the list; in its order."""
    position = {entry.name: number for number, entry in enumerate(entries)}
    graph = _graph(entries)
    found: dict[str, Sequence[str]] = {}
    for entry in entries:
        seen: set[str] = set()
        waiting = list(graph[entry.name])
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += () if name in position else graph.get(name, ())
        found[entry.name] = sorted((name for name in seen if name in position), key=position.__getitem__)
    return found


def _graph(entries: Iterable[Entry]) -> _Graph:
    """Return of each name the names of its causes."""
    graph: dict[str, set[str]] = {}
    for entry in entries:
        graph.setdefault(entry.name, set()).update(name for name in entry.after if name != entry.name)
        for effect in entry.before:
            if effect != entry.name:
                graph.setdefault(effect, set()).add(entry.name)
    return graph
