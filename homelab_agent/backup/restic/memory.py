"""What this host knows of a repository: the last archive of each set that it read back, and what is to be done."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from homelab_agent.backup.restic.manifest import Manifest

_ID_LENGTH = 64


class Memory:
    """In a directory of its own, 0700; every method blocks."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def keep(self, about: str, written: Manifest) -> None:
        """Remember an archive that was read back, in place of the one before."""
        path = self._last(written.set_name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(about.encode() + b"\n")
            file.writelines(written.lines())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def last(self, set_name: str) -> Manifest | None:
        """Return the manifest of the set's last archive that was read back."""
        with suppress(OSError, ValueError), self._last(set_name).open("rb") as file:
            file.readline()
            return Manifest.read(file)
        return None

    def forget(self, about: str) -> None:
        """Believe no more that this archive was as it should be: the next one is read back whole."""
        for path in self._directory.glob("last/*.json"):
            with path.open("rb") as file:
                if file.read(_ID_LENGTH).decode(errors="replace") == about:
                    path.unlink()

    def unpruned(self) -> None:
        """Note that something is forgotten, the bytes of which are still there."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._directory / "unpruned").touch()

    def is_unpruned(self) -> bool:
        """Return whether there is such a note."""
        return (self._directory / "unpruned").exists()

    def pruned(self) -> None:
        """Take the note away."""
        (self._directory / "unpruned").unlink(missing_ok=True)

    def hold(self, *, alone: bool) -> int | None:
        """Hold the repository against what else this host does there, with others or alone.

        Return a descriptor, which whoever asked closes; None where it is held. The kernel closes that of the killed.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._directory / "runs", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def _last(self, set_name: str) -> Path:
        return self._directory / "last" / f"{set_name}.json"
