"""What a killed restore has left may be about to end still: its lock and its files are waited for, a little."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from homelab_agent.backup.restore_errors import RestoreUnderWay

LINGER_SECONDS = 3.0
_AGAIN_SECONDS = 0.05


def lock(descriptor: int) -> None:
    """Lock an open directory for us alone (flock(2)); raises `RestoreUnderWay` where somebody goes on holding it."""
    end = time.monotonic() + LINGER_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise RestoreUnderWay from None
            time.sleep(_AGAIN_SECONDS)
        else:
            return


def remove_empty(folders: Sequence[Path]) -> None:
    """Take away those of these folders that nothing is in, the last ones first; what is another thing now stays."""
    for folder in reversed(folders):
        try:
            folder.rmdir()
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.ENOENT, errno.ENOTDIR, errno.EBUSY}:
                raise


def remove(path: Path) -> None:
    """Take away a file or a directory with all that is in it; one that is gone is gone.

    A program that a killed restore had started may still write there: it was killed, too, and is about to end.
    """
    end = time.monotonic() + LINGER_SECONDS
    while True:
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif os.path.lexists(path):  # false also where a file is in place of a folder that leads there
                path.unlink()
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.ENOENT} or time.monotonic() > end:
                raise
            time.sleep(_AGAIN_SECONDS)
        else:
            return
