"""Where secrets come from, as whoever holds them asks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Reading:
    """A value as it was read; `version` is what its store calls it, "" where there is no such thing."""

    value: str = field(repr=False)
    version: str = ""


class Origin(Protocol):
    """All secrets of one scheme. A name is what follows the scheme in a reference."""

    def read(self, names: Sequence[str], since: float) -> Sequence[Reading]:
        """Return what the names hold, all of one group, at one moment not before `since` (monotonic seconds).

        May block, is called in threads, raises AgentErrors.
        """

    def group(self, name: str) -> str:
        """Return what `name` belongs to: the names of one group change at one moment."""

    def good_until(self, group: str) -> float | None:
        """Return until when (monotonic seconds) what was read of a group may be used; None: for ever."""
