"""What came as JSON is looked at before it goes into PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from homelab_agent.reading.document import checked, finite

Special: TypeAlias = Callable[[Any, str], Any]


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
