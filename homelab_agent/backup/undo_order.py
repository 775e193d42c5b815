"""In which order restores of the same are taken back: each finds only then what it has left; pure.

Of two that have replaced the same, what the first has brought is what the second keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from homelab_agent.backup.undo_note import Undo

_Thing: TypeAlias = Path | tuple[str, str]
"""What is replaced: a name of the host, or a database of a container."""


def in_the_way(undo: Undo, all_of_them: Sequence[Undo]) -> Undo | None:
    """Return which other one is to be turned before this one can be: the latest that stands on it, or what it stood on.

    One that stands there on the same, and came later, is the next to be taken back also where files were written since,
    by which neither would know the other. What is told by numbers goes before what is told by a clock.
    """
    others = [one for one in all_of_them if one.step == "kept" and one.id != undo.id]
    below = next((one for one in others if _keeps_what_is_missing(one, undo)), None)
    later = [
        one
        for one in others
        if one.live == "new" and one.at > undo.at and _meet(one, undo) and not _keeps_what_is_missing(undo, one)
    ]
    return max(later, key=lambda one: one.at, default=below)


def _keeps_what_is_missing(one: Undo, other: Undo) -> bool:
    """Return whether one keeps what the other has left standing, so that it stands there no more.

    What a restore that was taken back keeps is what it has brought, and never what another one has: there the number is
    that of a file which was deleted since.
    """
    if (one.live, other.live) == ("old", "new"):
        return False
    kept = dict(_numbers(one, live=False))
    return any(number and kept.get(thing) == number for thing, number in _numbers(other, live=True))


def _meet(one: Undo, other: Undo) -> bool:
    mine, its = (dict(_numbers(undo, live=True)) for undo in (one, other))
    return not mine.keys().isdisjoint(its) or _within(mine, its) or _within(its, mine)


def _within(inner: Mapping[_Thing, int], outer: Mapping[_Thing, int]) -> bool:
    return any(above in outer for thing in inner if isinstance(thing, Path) for above in thing.parents)


def _numbers(undo: Undo, *, live: bool) -> Iterator[tuple[_Thing, int]]:
    """Yield what stands there, or is kept beside: inode numbers and OIDs; 0 for what is not there."""
    is_new = (undo.live == "new") == live
    for move in undo.moves:
        yield move.live, (move.new if is_new else move.old) or 0
    for server in undo.servers:
        for one in server.renamings:
            yield (server.identity.name, one.live), (one.new if is_new else one.old) or 0
