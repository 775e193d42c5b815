"""Who may say which directory a path leads to: whoever owns a folder on the way there, or a link.

The owner of a working copy is who its actions run as. A folder above it that is somebody else's could lead to a
directory of root's in which that somebody has put a program, as /tmp is one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from homelab_agent.core.errors import AgentError
from homelab_agent.core.privilege import User

_LINKS_MAX = 40
"""As the kernel has it (path_resolution(7))."""


class NotItsOwners(AgentError):
    """Others than {user} may put another directory in the place of {directory}: by {place}."""

    repair = "sudo chown {user}: {place} && sudo chmod go-w {place}; or `run_as`, or a working copy elsewhere"


def check(directory: Path, opened: int, user: User) -> None:
    """Raise `NotItsOwners` unless root and the user alone decide that a path leads to what was opened; blocking.

    Raises OSError where the path cannot be followed.
    """
    here = Path("/")
    for here, folder, entry in _steps(directory):
        if not _is_theirs(folder, entry, user):
            raise NotItsOwners(user=user.name, directory=directory, place=here)
    found = directory.stat()
    there = os.fstat(opened)
    if (found.st_dev, found.st_ino) != (there.st_dev, there.st_ino):
        raise NotItsOwners(user=user.name, directory=directory, place=here)


def _steps(path: Path) -> Iterator[tuple[Path, os.stat_result, os.stat_result]]:
    """Yield each folder on the way, how it stands, and the entry of it that is followed; links by their targets."""
    left = [*reversed(path.absolute().parts[1:])]
    here, links = Path("/"), 0
    while left:
        name = left.pop()
        if name == "..":
            here = here.parent
            continue
        entry = (here / name).lstat()
        yield here, here.stat(), entry
        if not stat.S_ISLNK(entry.st_mode):
            here /= name
            continue
        links += 1
        if links > _LINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = (here / name).readlink()
        left += reversed(target.parts[target.is_absolute() :])
        here = Path("/") if target.is_absolute() else here


def _is_theirs(folder: os.stat_result, entry: os.stat_result, user: User) -> bool:
    """Return whether nobody but root and the user can make an entry of a folder another."""
    they = {0, user.uid}
    if folder.st_uid not in they or (stat.S_ISLNK(entry.st_mode) and entry.st_uid not in they):
        return False
    others = bool(folder.st_mode & stat.S_IWOTH) or (
        folder.st_mode & stat.S_IWGRP and folder.st_gid not in {0, user.gid}
    )
    return not others or bool(folder.st_mode & stat.S_ISVTX and entry.st_uid in they)
