"""Versions of tailscaled, and the ranges of them that are known to be safe."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

Version: TypeAlias = tuple[int, ...]

_BEGINNING = re.compile(r"\d{1,9}(\.\d{1,9})*")
_BOUND = re.compile(rf"(>=|<) ?({_BEGINNING.pattern})")
_RANGE = re.compile(rf"{_BOUND.pattern}(, ?{_BOUND.pattern})?")


def is_range(text: str) -> bool:
    """Return whether a text is a range: ">=1.102", or ">=1.98.9, <1.99"."""
    return _RANGE.fullmatch(text) is not None


def parse(text: str) -> Version:
    """Return the numbers of "1.102.3-t0123456-g89abcde": (1, 102, 3); nothing for what does not begin with one."""
    found = _BEGINNING.match(text)
    return tuple(map(int, found[0].split("."))) if found else ()


def is_in(version: Version, ranges: Iterable[str]) -> bool:
    """Return whether a version is in one of the ranges; one that is not known is in none."""
    return bool(version) and any(_meets(version, one) for one in ranges)


def _meets(version: Version, range_: str) -> bool:
    return all(
        version >= parse(bound[2]) if bound[1] == ">=" else version < parse(bound[2])
        for bound in _BOUND.finditer(range_)
    )
