"""How bad something is, from what nobody need be told of to what is told at night, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from fnmatch import fnmatchcase

from homelab_agent.core.health import State


class Severity(IntEnum):
    """Ordered: who wants to hear of one hears of all that are worse."""

    NONE = 0
    WARNING = 1
    FAILED = 2
    CRITICAL = 3

    @property
    def word(self) -> str:
        """Its name as the configuration and messages have it."""
        return self.name.lower()


def named(word: str) -> Severity:
    """Return the severity of that name; raises KeyError for another word."""
    return Severity[word.upper()]


@dataclass(frozen=True, slots=True)
class Scale:
    """How bad what is, by patterns of checks: whose failure is `critical`, whose degradation is `serious`.

    The agent works on without a backup, a deployment or a unit of the host, so its state and `status` are degraded by
    them at most; who is told wants to hear of them as of failures.
    """

    critical: Sequence[str] = ()
    serious: Sequence[str] = ()

    def of(self, check: str, state: State) -> Severity:
        """Return how bad a check's state is."""
        match state:
            case State.FAILED:
                return Severity.CRITICAL if matches(check, self.critical) else Severity.FAILED
            case State.DEGRADED:
                return Severity.FAILED if matches(check, self.serious) else Severity.WARNING
            case State.OK | State.DISABLED | State.NOT_AVAILABLE:
                return Severity.NONE


def matches(check: str, patterns: Sequence[str]) -> bool:
    """Return whether a check is one of the `patterns`, or part of it: "backup" has "backup.place"."""
    return any(fnmatchcase(check, pattern) or fnmatchcase(check, f"{pattern}.*") for pattern in patterns)
