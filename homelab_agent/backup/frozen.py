"""What was frozen, on disk: a file for each container that is about to be paused or stopped, until it runs as before.

The file is there, and on disk, before the container is touched. Its name says which container and how; its content
helps to do it well. Whoever froze it holds the file's lock (flock(2)), and the kernel lets go of that with the process:
a file whose lock can be had is what a run left that was killed, lost its power, or gave up. No process id can be
mistaken for another then, and two that resume at once do not meet.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias, cast

from pydantic import TypeAdapter

from homelab_agent.backup.inventory import Identity
from homelab_agent.core import clock, journal, statefile
from homelab_agent.core.errors import AgentError, Exit, describe
from homelab_agent.core.worker import Worker

How: TypeAlias = Literal["paused", "stopped", "hooked"]
"""hooked: it runs, and a command of its own is still to run in it (`hooks.py`, in a directory of its own)."""

_NAME = re.compile(r"([0-9a-f]{64})\.(paused|stopped|hooked)")
_NOBODY = Identity("", "", "", "")

log = journal.logger("backup")


class RecordsUnusable(AgentError):
    """What is frozen cannot be noted in {directory}, so nothing is frozen."""

    repair = "ls -ld {directory}; df {directory}; or name another one ([backup] records)."


class HeldByAnother(AgentError):
    """The container {name} is frozen by another run."""

    repair = "Wait for it: homelab-agent jobs list."
    exit_code = Exit.BUSY


@dataclass(frozen=True, slots=True)
class Entry:
    """A container that is paused or stopped, or may be: between the note and the deed there is a moment.

    `health` is what its check said before, "" where it has none; `order` counts in the order of freezing; `awaited`
    says that another one of them is to start only when this one is well; `stop_seconds` is how long Docker gives it to
    end; `started_at` is as Docker had it then. `boot_id` and `pid` say who.
    """

    container: str
    how: How
    identity: Identity = _NOBODY
    image_id: str = ""
    health: str = ""
    started_at: str = ""
    stop_seconds: float = 10.0
    order: int = 0
    awaited: bool = False
    set_name: str = ""
    run_id: str = ""
    boot_id: str = ""
    pid: int = 0
    at: str = ""

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.identity.name or self.container[:12]

    @property
    def file(self) -> str:
        """The file's name, which says enough to resume the container by."""
        return f"{self.container}.{self.how}"


_ENTRY = TypeAdapter(Entry)


@dataclass(frozen=True, slots=True)
class Held:
    """An entry of which we hold the lock.

    `of_this_boot` says whether what was asked of Docker for it may still be under way.
    """

    entry: Entry
    descriptor: int = field(repr=False)
    of_this_boot: bool = True


class Frozen:
    """The entries in a directory; it and all in it is root's alone.

    Methods raise `RecordsUnusable` where the directory cannot be read or written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._worker = Worker("frozen")

    async def note(self, entry: Entry) -> Held:
        """Have it on disk that this container is about to be frozen; raises `HeldByAnother`.

        What an earlier run left of the same container is replaced.
        """
        return await self._worker.run(self._note, entry)

    async def remove(self, held: Held) -> None:
        """Forget a container that runs as before, and let go of it."""
        await self._worker.run(self._remove, held)

    async def release(self, held: Held) -> None:
        """Let go of a container, and leave its entry to whoever resumes it later."""
        await self._worker.run(os.close, held.descriptor)

    async def take(self) -> list[Held]:
        """Take every entry that nobody holds."""
        return await self._worker.run(self._take)

    async def read(self) -> Sequence[Entry]:
        """Return all entries, also those of a run under way, without taking them."""
        return await self._worker.run(self._read)

    def close(self) -> None:
        """Let the thread end."""
        self._worker.close()

    # What follows runs in the thread.

    def _note(self, entry: Entry) -> Held:
        entry = replace(entry, boot_id=clock.boot_id(), pid=os.getpid(), at=datetime.now(UTC).isoformat())
        with self._alone():
            for name in self._names(entry.container):
                self._drop_left(name, entry)
            path = self._directory / entry.file
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.write(descriptor, _ENTRY.dump_json(entry))
                os.fsync(descriptor)
                statefile.sync_directory(self._directory)
            except BaseException:
                with suppress(OSError):
                    path.unlink()
                os.close(descriptor)
                raise
            return Held(entry, descriptor)

    def _drop_left(self, name: str, entry: Entry) -> None:
        descriptor = _locked(self._directory / name)
        if descriptor is None:
            raise HeldByAnother(name=entry.name)
        (self._directory / name).unlink()
        os.close(descriptor)

    def _remove(self, held: Held) -> None:
        try:
            with self._alone(), suppress(FileNotFoundError):
                (self._directory / held.entry.file).unlink()
                statefile.sync_directory(self._directory)
        finally:
            os.close(held.descriptor)

    def _take(self) -> list[Held]:
        boot_id = clock.boot_id()
        with self._alone():
            found = []
            for name in self._names():
                descriptor = _locked(self._directory / name)
                if descriptor is not None:
                    entry = _parsed(name, os.pread(descriptor, 64 * 1024, 0))
                    found.append(Held(entry, descriptor, entry.boot_id in {"", boot_id}))
            return found

    def _read(self) -> list[Entry]:
        try:
            return [_parsed(name, (self._directory / name).read_bytes()) for name in self._names()]
        except FileNotFoundError:  # one was resumed meanwhile
            return self._read()
        except OSError as error:
            raise RecordsUnusable(directory=self._directory, cause=error) from error

    def _names(self, container: str = "") -> list[str]:
        if not self._directory.is_dir():
            return []
        found = (path.name for path in self._directory.iterdir())
        return sorted(name for name in found if _NAME.fullmatch(name) and name.startswith(container))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others from making and taking entries meanwhile, so that no file is seen before its lock is held."""
        descriptor = None
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        except OSError as error:
            raise RecordsUnusable(directory=self._directory, cause=error) from error
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _locked(path: Path) -> int | None:
    """Return a descriptor that holds the file's lock; None where somebody else does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _parsed(name: str, content: bytes) -> Entry:
    """Return what a file says; of a damaged one, what its name says."""
    container, _, how = name.partition(".")
    known = Entry(container, cast("How", how))
    try:
        return replace(_ENTRY.validate_json(content), container=container, how=known.how)
    except ValueError as error:
        log.warning("backup.damaged_entry", container=container[:12], cause=describe(error))
        return known
