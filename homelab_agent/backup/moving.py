"""What is to be moved where, so that what was unpacked stands where it is read, and what stood there is kept beside.

A directory or a file changes places with its new one as a whole. What is mounted there itself, as a disk is, has no
name that could be changed: all that is in it is moved, one by one, and what the directory itself is (owner, mode)
stays. Of a part only the files that came are moved.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from homelab_agent.backup import reserved, swap, users
from homelab_agent.backup.layout import Place
from homelab_agent.backup.reserved import STAGING, UNDO
from homelab_agent.backup.swap import Move

_NOT_DATA = ("lost+found",)


@dataclass(frozen=True, slots=True)
class Group:
    """Places among which names can be changed, each with where its other side is; all are unpacked in `staging`."""

    places: Mapping[Place, Path]
    staging: Path

    @property
    def ours(self) -> Sequence[Path]:
        """Whatever may be of ours beside them before anything is moved."""
        return [self.staging, *self.places.values()]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Moves that can be made; `kept` are directories of ours that hold the other side."""

    moves: Sequence[Move]
    kept: Sequence[Path] = ()


def gone(places: Sequence[Place]) -> Sequence[Path]:
    """Return the directories above places that are no more, outermost first; blocking."""
    return sorted({above for place in places for above in place.path.parents if not above.exists()})


def groups(places: Sequence[Place], undo_id: str) -> Sequence[Group]:
    """Return the places by mount; blocking. What lies within another of them comes with that."""
    outer = [one for one in places if not any(one.path.is_relative_to(up.path) for up in places if up != one)]
    found: dict[tuple[int, int], list[Place]] = {}
    for place in outer:
        above = _above(place.path)
        # A subvolume of Btrfs is in the mount of another, and no name goes from one to the other.
        found.setdefault((users.mount_of(above).id, above.stat().st_dev), []).append(place)
    return [
        Group(
            {one: _above(one.path) / f"{UNDO}{undo_id}-{one.path.name}" for one in ones},
            _above(ones[0].path) / f"{STAGING}{undo_id}",
        )
        for ones in found.values()
    ]


def prepare(group: Group, *, parts: Collection[Place]) -> Prepared:
    """Give what was unpacked its names beside what it is to replace, all of it, or of `parts` what came; blocking."""
    moves: list[Move] = []
    kept: list[Path] = []
    for place, beside in group.places.items():
        unpacked = group.staging / place.member
        if not unpacked.exists() and not unpacked.is_symlink():
            continue
        swap.put_beside(unpacked, beside)
        whole = not (place in parts and beside.is_dir() and place.path.is_dir())
        if whole and not place.path.is_mount():
            moves.append(swap.planned(place.path, beside))
            continue
        kept.append(beside)
        moves += _contents(place.path, beside) if whole else _parts(place.path, place.path, beside)
    shutil.rmtree(group.staging)
    return Prepared(moves, kept)


def _contents(live: Path, beside: Path) -> Iterator[Move]:
    names = {path.name for top in (live, beside) for path in top.iterdir()}
    for name in sorted(one for one in names if not reserved.is_ours(one) and one not in _NOT_DATA):
        yield swap.planned(live / name, beside / name, folder=swap.folder_in(live, live))


def _parts(top: Path, live: Path, beside: Path) -> Iterator[Move]:
    folder = swap.folder_in(top, live)
    for new in sorted(beside.iterdir()):
        old = live / new.name
        if new.is_dir() and not new.is_symlink() and old.is_dir() and not old.is_symlink():
            yield from _parts(top, old, new)
        else:
            yield swap.planned(old, new, folder=folder)


def _above(path: Path) -> Path:
    """Return where a place's other side is: beside it; in it where something is mounted there itself."""
    return path if path.is_mount() else path.parent
