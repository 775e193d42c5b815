"""What may be said to the root half: each argument of a verb is of one of these kinds, and of no other."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

SHAS_MAX = 500
"""So many commits fit into one request."""

_DIGITS = re.compile(r"[0-9a-f]+")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


class Argument(Protocol):
    """What an argument of a verb may be."""

    def check(self, value: object) -> object:
        """Return the value; raises ValueError, which says what it should be, for any other."""


@dataclass(frozen=True, slots=True)
class Name:
    """One of the names that the root half's own configuration knows."""

    known: Collection[str]

    def check(self, value: object) -> object:
        """Return the name."""
        if isinstance(value, str) and value in self.known:
            return value
        message = "a name in the configuration of the root half"
        raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Word:
    """What names something that no configuration knows: letters, digits, dots, dashes, slashes between; no option."""

    longest: int = 200

    def check(self, value: object) -> object:
        """Return it."""
        if isinstance(value, str) and len(value) <= self.longest and _WORD.fullmatch(value) and ".." not in value:
            return value
        message = f"a name of at most {self.longest} letters, digits, dots and dashes"
        raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Digits:
    """So many hexadecimal digits, lower case: one of the `lengths`."""

    lengths: tuple[int, ...]

    def check(self, value: object) -> object:
        """Return the digits."""
        if isinstance(value, str) and len(value) in self.lengths and _DIGITS.fullmatch(value):
            return value
        message = f"{' or '.join(map(str, self.lengths))} hexadecimal digits"
        raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Sha(Digits):
    """A git object."""

    lengths: tuple[int, ...] = (40, 64)


@dataclass(frozen=True, slots=True)
class Shas:
    """Git objects, at most `SHAS_MAX`."""

    def check(self, value: object) -> object:
        """Return their digits."""
        if isinstance(value, list) and len(value) <= SHAS_MAX:
            return [Sha().check(one) for one in value]
        message = f"a list of at most {SHAS_MAX} times 40 or 64 hexadecimal digits"
        raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number within bounds."""

    least: int
    most: int

    def check(self, value: object) -> object:
        """Return the number."""
        if isinstance(value, int) and not isinstance(value, bool) and self.least <= value <= self.most:
            return value
        message = f"a whole number from {self.least} to {self.most}"
        raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Flag:
    """Yes or no."""

    def check(self, value: object) -> object:
        """Return it."""
        if isinstance(value, bool):
            return value
        message = "true or false"
        raise ValueError(message)
