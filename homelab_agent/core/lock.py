"""One agent per state directory: the lock on `agent.lock`."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from homelab_agent.core.errors import AgentError, Exit


class StateDirectoryBusy(AgentError):
    """Another agent holds {directory}: {holder}."""

    repair = "Stop it first (systemctl stop homelab-agent.socket), or give this one its own directory ([agent] state)."
    exit_code = Exit.BUSY


class StateDirectoryClosed(AgentError):
    """The agent cannot enter its state directory {directory}."""

    repair = "Let the agent's user into it: ls -ld {directory}; or name another one ([agent] state)."
    exit_code = Exit.CONFIGURATION


class DirectoryLock:
    """Held while the context lasts, and never longer than the process: the kernel lets go of it (flock(2)).

    Both the directory and `agent.lock` in it are locked. The file is for people and scripts, and says who
    holds it; on a read-only or full disk it cannot be made, and the agent starts all the same.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held = ExitStack()

    def __enter__(self) -> Self:
        """Take the lock at once; raises `StateDirectoryBusy` or `StateDirectoryClosed`."""
        with ExitStack() as held:
            try:
                self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
                directory = _open(held, self._directory, os.O_RDONLY | os.O_DIRECTORY)
            except OSError as error:
                raise StateDirectoryClosed(directory=self._directory, cause=error) from error
            self._lock(directory)
            try:
                file = _open(held, self._directory / "agent.lock", os.O_RDWR | os.O_CREAT)
            except OSError:
                self._held = held.pop_all()
                return self
            self._lock(file)
            note = f"process {os.getpid()}, since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n"
            try:
                os.ftruncate(file, 0)
                os.pwrite(file, note.encode(), 0)
            except OSError:
                pass  # a full disk: the lock holds without the note
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go. The file stays: to remove it could take it from under the next holder."""
        self._held.close()

    def _lock(self, descriptor: int) -> None:
        _lock(descriptor, self._directory)


@contextmanager
def kept_free(directory: Path, *, link: bool = True) -> Iterator[int]:
    """Let no agent start in a directory while the context lasts, for who is none; nothing is made or changed there.

    Yields the directory's descriptor: whatever its path leads to later, that is the one. With `link=False` it may not
    be a link to one. Raises `StateDirectoryBusy`, `StateDirectoryClosed`.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | (0 if link else os.O_NOFOLLOW)
    with ExitStack() as held:
        try:
            descriptor = _open(held, directory, flags)
        except OSError as error:
            raise StateDirectoryClosed(directory=directory, cause=error) from error
        _lock(descriptor, directory)
        yield descriptor


def holder(directory: Path) -> str:
    """Return who holds `directory` in words, "" when nobody does; only looks (proc_locks(5)), takes nothing."""
    try:
        inode = (directory / "agent.lock").stat().st_ino
        held = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "FLOCK" in line]
    except OSError:
        return ""
    return _holder(directory) if any(word.endswith(f":{inode}") for line in held for word in line[5:6]) else ""


def _holder(directory: Path) -> str:
    try:
        return (directory / "agent.lock").read_text().strip() or "a process that is just starting"
    except OSError:
        return "a process that could not leave its name"


def _lock(descriptor: int, directory: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StateDirectoryBusy(directory=directory, holder=_holder(directory)) from error


def _open(held: ExitStack, path: Path, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o640)
    held.callback(os.close, descriptor)
    return descriptor
