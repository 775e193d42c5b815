"""What came as JSON is looked at before it goes into PostgreSQL."""

from __future__ import annotations

from typing import Any

from homelab_agent.reading.document import checked, finite


def plain(value: Any, name: str) -> Any:
    """Return a value of JSON as it is; raises `Unfit` for what PostgreSQL does not take."""
    match value:
        case str():
            return checked(value, name)
        case float():
            return finite(value, name)
        case dict():
            return {checked(key, f"a key of {name}"): plain(one, f"{name}.{key}") for key, one in value.items()}
        case list():
            return [plain(one, f"{name}[{number}]") for number, one in enumerate(value)]
        case _:
            return value
