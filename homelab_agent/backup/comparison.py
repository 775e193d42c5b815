"""What a restore would change: what is there now, held against what an archive says is in it; nothing is touched."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from homelab_agent.backup import reserved
from homelab_agent.backup.layout import Place
from homelab_agent.backup.point import Content

NAMES_MAX = 10
_PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of the regular files of a place, by their names in it.

    `lost_bytes` are in files that are there now, and go or become others; `newest` is when the last of these was
    written: what was done until then is undone.
    """

    place: Place
    comes: Sequence[str]
    goes: Sequence[str]
    becomes_other: Sequence[str]
    stays: int
    lost_bytes: int
    newest: datetime | None

    def __str__(self) -> str:
        counts = {"come": self.comes, "go": self.goes, "are others": self.becomes_other}
        said = [f"{len(names)} {what} ({_some(names)})" for what, names in counts.items() if names]
        return f"{self.place.path}: {'; '.join([*said, f'{self.stays} stay as they are'])}"


def compare(place: Place, files: Mapping[str, Content], *, parts: bool) -> Change:
    """Hold a place against the files that an archive has of it, by member; with `parts` no other goes. Blocking.

    A file that goes meanwhile counts as gone, one that cannot be read as another.
    """
    wanted = {_inside(place, member): content for member, content in files.items()}
    there = dict(_there(place.path))
    lost = set() if parts else there.keys() - wanted.keys()
    same = {name for name in there.keys() & wanted.keys() if _is(_at(place, name), there[name], wanted[name])}
    other = (there.keys() & wanted.keys()) - same
    written = [there[name].st_mtime for name in lost | other]
    return Change(
        place,
        comes=sorted(wanted.keys() - there.keys()),
        goes=sorted(lost),
        becomes_other=sorted(other),
        stays=len(there) - len(lost) - len(other),
        lost_bytes=sum(there[name].st_size for name in lost | other),
        newest=datetime.fromtimestamp(max(written), UTC) if written else None,
    )


def _there(top: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the regular files of a place; the name of a place that is a file itself is ""."""
    try:
        found = top.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        yield "", found
        return
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if not reserved.is_ours(name)]
        for name in names:
            path = Path(folder, name)
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISREG(found.st_mode):
                yield str(path.relative_to(top)), found


def _is(path: Path, found: os.stat_result, content: Content) -> bool:
    if found.st_size != content.size:
        return False
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
    except OSError:
        return False
    return digest.hexdigest() == content.sha256


def _inside(place: Place, member: str) -> str:
    return member.removeprefix(place.member).removeprefix("/")


def _at(place: Place, name: str) -> Path:
    return place.path / name if name else place.path


def _some(names: Sequence[str]) -> str:
    shown = [name or "itself" for name in names[:NAMES_MAX]]
    return ", ".join([*shown, *(["..."] if len(names) > NAMES_MAX else [])])
