"""What was read from OpenBao: each path once, asked for a newer version, and kept through an outage."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from homelab_agent.core.clock import Clock
from homelab_agent.core.secret import Reading
from homelab_agent.secrets import reference
from homelab_agent.secrets.kv import Version
from homelab_agent.secrets.reference import Reference


class Asked(Protocol):
    """OpenBao, as the store asks it from any thread but the loop's; both block, and raise AgentErrors."""

    def read_blocking(self, path: str, version: int | None = None) -> Version:
        """Return what a path holds, in its newest version or in the one given."""

    def current_blocking(self, path: str) -> int:
        """Return the number of a path's newest version, 0 where the mount keeps none."""


@dataclass(slots=True)
class _Path:
    """One path; `asked_at` is from when, in monotonic seconds, it is known that `version` is the newest."""

    version: Version | None = None
    asked_at: float = float("-inf")
    lock: threading.Lock = field(default_factory=threading.Lock)


class Store:
    """The `Origin` of `openbao:` references. Its names of one path change together.

    `max_stale` is how many seconds a value may be used after OpenBao was last asked with success.
    """

    def __init__(self, asked: Asked, clock: Clock, *, max_stale: float) -> None:
        self.max_stale = max_stale
        self._asked = asked
        self._clock = clock
        self._paths: dict[str, _Path] = {}
        self._paths_lock = threading.Lock()

    @property
    def asked_at(self) -> float | None:
        """Since when, in monotonic seconds, the oldest of the values has not been confirmed; None: there are none."""
        return min((path.asked_at for path in tuple(self._paths.values()) if path.version is not None), default=None)

    def read(self, names: Sequence[str], since: float) -> Sequence[Reading]:
        """Return what the names hold; see `Origin`. Raises what `reference.parse` and the client raise, `KeyAbsent`."""
        wanted = [reference.parse(name) for name in names]
        with self._paths_lock:
            path = self._paths.setdefault(_key(wanted[0]), _Path())
        with path.lock:  # who asks while another does gets the same answer
            at = self._clock.read().monotonic if path.version is None or path.asked_at < since else path.asked_at
            if at != path.asked_at:
                path.version = self._newest(wanted[0], path.version)
            version = path.version
            assert version is not None  # noqa: S101 - asked for just now, or before
            found = [Reading(version.value(one.key), str(version.number or "")) for one in wanted]
            path.asked_at = at
            return found

    def group(self, name: str) -> str:
        """Return the path, with the version where one is pinned."""
        return _key(reference.parse(name))

    def good_until(self, group: str) -> float | None:
        """Return when what was read becomes too old, in monotonic seconds; None while nothing was."""
        path = self._paths.get(group)
        return None if path is None or path.version is None else path.asked_at + self.max_stale

    def _newest(self, wanted: Reference, known: Version | None) -> Version:
        if known is None or wanted.version is not None:  # a version may be deleted, but not become another
            return self._asked.read_blocking(wanted.path, wanted.version)
        number = self._asked.current_blocking(wanted.path)
        return known if number and number == known.number else self._asked.read_blocking(wanted.path)


def _key(wanted: Reference) -> str:
    return wanted.path if wanted.version is None else f"{wanted.path}@{wanted.version}"
