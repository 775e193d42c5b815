"""Locks that nobody holds any more: taken away, and said; those of the living are waited for.

restic itself calls a lock stale after half an hour without a sign of life, or when its process is gone; a number that
another process has meanwhile, after a boot above all, keeps a dead lock alive
(https://restic.readthedocs.io/en/stable/design.html, Locks).
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from homelab_agent.backup.restic import errors
from homelab_agent.backup.restic.program import Restic
from homelab_agent.core import journal
from homelab_agent.core.clock import Clock

WAIT_SECONDS = 1800.0
"""How long a living lock is waited for before a run that has frozen nothing yet."""
_LOOK_SECONDS = 5.0
_RESTIC = re.compile(r"Name:\trestic\n(?:.*\n)*?State:\t[^ZX].*\n(?:.*\n)*?NSpid:(.*)\n")
"""/proc/PID/status of one that has not ended, with its numbers: one in each namespace that it is in (proc(5))."""

log = journal.logger("backup")


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock as restic keeps it; `since` is when its holder gave its last sign of life."""

    id: str
    hostname: str
    pid: int
    since: datetime
    exclusive: bool

    def __str__(self) -> str:
        kind = "alone" if self.exclusive else "with others"
        return f"process {self.pid} on {self.hostname}, {kind}, since {self.since:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Present:
    """How this host is now: its name, when it was booted, and what numbers the processes have that are a restic.

    One in a container has several; its lock tells the one that it has there.
    """

    hostname: str
    booted_at: datetime
    restics: frozenset[int]


def is_dead(lock: Lock, present: Present) -> bool:
    """Return whether nobody can hold a lock any more; of another host's one never knows."""
    if lock.hostname != present.hostname:
        return False
    return lock.since < present.booted_at or lock.pid not in present.restics


class Locks:
    """The locks of one repository."""

    def __init__(self, restic: Restic, clock: Clock) -> None:
        self._restic = restic
        self._clock = clock

    async def clear(self, tell: Callable[[str], None], *, seconds: float = WAIT_SECONDS, alone: bool = False) -> None:
        """Return when nothing is in the way: an exclusive lock, or with `alone` any lock at all.

        `tell` is told for whom is waited; raises `RepositoryLocked` after `seconds`.
        """
        end = self._clock.read().monotonic + seconds
        told: set[str] = set()
        while found := [lock for lock in await self._living() if alone or lock.exclusive]:
            if self._clock.read().monotonic >= end:
                name = self._restic.access.name
                raise errors.RepositoryLocked(repository=name, cause="; ".join(map(str, found)))
            for lock in found:
                if lock.id not in told:
                    tell(f"waits for {lock}")
            told |= {lock.id for lock in found}
            await self._clock.sleep(_LOOK_SECONDS)

    async def _living(self) -> Sequence[Lock]:
        """Return the locks that may be held, when those of the dead are gone."""
        found = await self._list()
        dead = await self._dead(found)
        if not dead:
            return found
        await self._restic.ask("unlock")
        left = await self._list()
        if left and len(await self._dead(left)) == len(left):  # restic believes in them, and nobody else's is there
            await self._restic.ask("unlock", "--remove-all")
            left = await self._list()
        gone = [lock for lock in dead if lock.id not in {one.id for one in left}]
        for lock in gone:
            log.warning("backup.stale_lock_removed", repository=self._restic.access.name, lock=str(lock))
        return [lock for lock in left if lock not in dead]

    async def _dead(self, locks: Sequence[Lock]) -> list[Lock]:
        if not locks:
            return []
        present = await asyncio.to_thread(_present)
        return [lock for lock in locks if is_dead(lock, present)]

    async def _list(self) -> list[Lock]:
        if await asyncio.to_thread(self._sees_none):
            return []
        said = await self._restic.ask("list", "locks", "--no-lock")
        found: list[Lock] = []
        for name in re.findall(r"^[0-9a-f]{64}$", said, re.MULTILINE):
            with suppress(errors.ResticFailed):  # it is gone meanwhile, or was never written whole
                found.append(_parsed(name, await self._restic.ask("cat", "lock", name, "--no-lock")))
        return found

    def _sees_none(self) -> bool:
        directory = self._restic.access.directory
        return directory is not None and (directory / "locks").is_dir() and not any((directory / "locks").iterdir())


def _parsed(name: str, said: str) -> Lock:
    values = json.loads(said)
    return Lock(
        id=name,
        hostname=values["hostname"],
        pid=values["pid"],
        since=parsed_time(values["time"]),
        exclusive=values["exclusive"],
    )


def parsed_time(text: str) -> datetime:
    """Return restic's time, which has nanoseconds, in UTC."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).astimezone(UTC)


def _present() -> Present:
    """Return how this host is; blocking."""
    seconds = float(Path("/proc/uptime").read_text().split()[0])
    restics: set[int] = set()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            found = _RESTIC.match((entry / "status").read_text()) if entry.name.isdecimal() else None
            restics.update(map(int, found[1].split()) if found is not None else ())
    return Present(socket.gethostname(), datetime.now(UTC) - timedelta(seconds=seconds), frozenset(restics))
