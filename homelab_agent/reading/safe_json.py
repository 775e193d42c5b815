"""What came as JSON is looked at before it goes into PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

from homelab_agent.reading.document import checked, finite

Special: TypeAlias = Callable[[Any, str], Any]

_DIGITS_MAX = 300
"""A number of more digits is none that PostgreSQL's views can count with."""


def plain(value: Any, name: str, special: Special = lambda value, _: value) -> Any:
    """Return a value of JSON as it is; raises `Unfit` for what PostgreSQL does not take.

    What JSON does not have is what `special` makes of it, given its name too.
    """
    match value:
        case None | bool() | int():
            return value
        case str():
            return checked(value, name)
        case float():
            return finite(value, name)
        case dict():
            return {
                checked(key, f"a key of {name}"): plain(one, f"{name}.{key}", special) for key, one in value.items()
            }
        case list():
            return [plain(one, f"{name}[{number}]", special) for number, one in enumerate(value)]
        case _:
            return special(value, name)


def read(body: bytes) -> Any:
    """Return what JSON says; raises ValueError or RecursionError where it is none.

    Bytes that are no UTF-8 become halves of surrogate pairs, a number without end an infinity: `plain` refuses both,
    and so they spoil only what they stand in.
    """
    return json.loads(body.decode("utf-8-sig", "surrogateescape"), parse_int=_number)


def whole(value: Any) -> str:
    """Return all of a value of JSON for a person, in ASCII; what is none is said as text."""
    try:
        return json.dumps(value, default=str)
    except RecursionError:
        return json.dumps({"$omitted": "it is nested too deeply to be written down"})


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _DIGITS_MAX else float(digits)
