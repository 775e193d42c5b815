"""A dump of SQLite goes to where its file was: into what is unpacked beside the place, and with that in its place.

The log and the index beside the old file (-wal, -shm, -journal) go with it: they mean something with no other.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from homelab_agent.backup import joined, layout, swap
from homelab_agent.backup.aim import Aim
from homelab_agent.backup.dumping import BESIDE
from homelab_agent.backup.layout import Place
from homelab_agent.backup.loading import Load
from homelab_agent.backup.point import Content
from homelab_agent.backup.restore_errors import NoPlaceForIt, NotUnpacked
from homelab_agent.backup.swap import Move


@dataclass(frozen=True, slots=True)
class InPlace:
    """A dump, the place where its file is, and the file's path in it."""

    load: Load
    place: Place
    inner: PurePosixPath

    @property
    def live(self) -> Path:
        """Where the file is read."""
        return self.place.path / self.inner


def found(load: Load, aim: Aim) -> InPlace:
    """Return where a dump goes, by what its container had mounted when it was taken; raises `NoPlaceForIt`."""
    path = PurePosixPath(str(load.told["path"]))
    mounts = aim.contents.about.get("containers", {}).get(load.container, {}).get("mounts", {})
    target = layout.innermost(path, mounts, PurePosixPath)
    top = _mounted(str(mounts[target]), aim) if target is not None else None
    if target is None or top is None:
        raise NoPlaceForIt(path=path, container=load.container)
    file = top.path / path.relative_to(target)
    outer = [one for one in aim.places if file.is_relative_to(one.path)]
    place = min(outer, key=lambda one: len(one.path.parts), default=top)
    return InPlace(load, place, PurePosixPath(file.relative_to(place.path)))


def contents(files: Sequence[InPlace], place: Place) -> Mapping[str, Content]:
    """Return what the files of a place will be, by member; of one that was cut only the size is known before."""
    return {f"{place.member}/{one.inner}": Content(one.load.bytes, "") for one in files if one.place == place}


def put(one: InPlace, pieces: Path, staging: Path) -> None:
    """Put a dump that was unpacked in `pieces` among what is unpacked in `staging`; blocking.

    It has the owner and mode of the file that lives; where there is none, the owner of its folder.
    """
    target = staging / one.place.member / one.inner
    try:
        _make_folders(target.parent, staging, one.live.parent)
        for end in BESIDE:
            target.with_name(target.name + end).unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(target, flags, 0o600), "wb") as file:
            joined.copy((pieces / name for name in one.load.pieces), file)
            _be_like(file.fileno(), one.live, target.parent)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise NotUnpacked(directory=staging.parent, cause=error) from error


def logs(files: Sequence[InPlace], beside: Path, place: Place) -> Iterator[Move]:
    """Yield the moves that take away what lies beside the old file of a place of which parts alone are replaced."""
    for one in files:
        if one.place == place and one.inner.parts:
            folder = swap.folder_in(place.path, one.live.parent)
            for end in BESIDE if folder is not None else ():
                live, inner = (path.with_name(path.name + end) for path in (one.live, beside / one.inner))
                yield swap.planned(live, inner, folder=folder)


def _mounted(name: str, aim: Aim) -> Place | None:
    if name.startswith("/"):
        return Place(Path(name))
    known = next((one for one in aim.places if one.volume == name), None)
    if known is not None or aim.inventory is None:
        return known
    volume = aim.inventory.volumes.get(name)
    return None if volume is None else Place(volume.path, name)


def _make_folders(folder: Path, staging: Path, live: Path) -> None:
    """Make the folders down to one, each like the one that lives; no link leads there."""
    inner = folder.relative_to(staging).parts
    for depth in range(1, len(inner) + 1):
        path = staging.joinpath(*inner[:depth])
        if path.is_symlink():
            raise NotADirectoryError(f"{path} is a link")
        if not path.is_dir():
            path.mkdir(0o755)
            above = live
            for _ in range(len(inner) - depth):
                above = above.parent
            if above.is_dir() and not above.is_symlink():
                like = above.stat()
                os.chown(path, like.st_uid, like.st_gid)
                path.chmod(stat.S_IMODE(like.st_mode))


def _be_like(file: int, live: Path, folder: Path) -> None:
    try:
        like = live.lstat()
    except FileNotFoundError:
        like = folder.stat()
    mode = stat.S_IMODE(like.st_mode) if stat.S_ISREG(like.st_mode) else 0o600
    os.fchown(file, like.st_uid, like.st_gid)
    os.fchmod(file, mode)
