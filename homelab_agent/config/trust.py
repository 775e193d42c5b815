"""Whether the configuration is root's own: root does what it says, on behalf of a user who is not root."""

from __future__ import annotations

import stat
from pathlib import Path

from homelab_agent.core.errors import AgentError, Exit, describe


class ConfigurationNotRoots(AgentError):
    """Root does not act on {path} for another user: {why}."""

    repair = "{repair}"
    exit_code = Exit.CONFIGURATION

    def __init__(self, *, path: Path, why: str, repair: str) -> None:
        super().__init__(path=path, why=why, repair=repair)


def check(path: Path) -> None:
    """Raise `ConfigurationNotRoots` when anyone but root can change the file, or put another in its place.

    A directory that everybody may write to is taken where its sticky bit keeps them from each other's files.
    """
    path = path.absolute()
    try:
        if path != (real := path.resolve()):
            why, repair = "a symbolic link leads to it", f"name the file itself: --config {real}"
            raise ConfigurationNotRoots(path=path, why=why, repair=repair)
        for place in (path, *path.parents):
            status = place.stat()
            if status.st_uid != 0:
                why = f"{place} does not belong to root"
                raise ConfigurationNotRoots(path=path, why=why, repair=f"sudo chown root: {place}")
            is_shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if is_shared and not (stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX):
                why = f"others may write to {place}"
                raise ConfigurationNotRoots(path=path, why=why, repair=f"sudo chmod go-w {place}")
    except OSError as error:
        raise ConfigurationNotRoots(path=path, why=describe(error), repair="--config FILE names another") from error
