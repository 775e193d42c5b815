"""What is in force, key by key, and where each value came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from homelab_agent.config import keys, secrecy
from homelab_agent.config.keys import KeyPath, Model
from homelab_agent.config.loading import Loaded, M


@dataclass(frozen=True, slots=True)
class Shown:
    """One key: its masked value (None: unset, or a section that is off) and where it came from."""

    key: str
    value: Any
    origin: str


def values(loaded: Loaded[M]) -> Iterator[Shown]:
    """Yield every key in force, in the order of the sections; one for a section that is off."""
    dump = loaded.settings.model_dump(mode="json")
    for path, value in _leaves(type(loaded.settings), dump, ()):
        yield Shown(keys.dotted(path), secrecy.masked(path, value), loaded.source.origin(path))


def _leaves(model: Model, data: dict[str, Any], above: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    for name, described in model.model_fields.items():
        value, path = data[name], (*above, name)
        table, entry = keys.table(described.annotation), keys.entry(described.annotation)
        if table is not None and value is not None:
            yield from _leaves(table, value, path)
        elif entry is not None and value:
            for index, one in enumerate(value):
                yield from _leaves(entry, one, (*path, index))
        else:
            yield path, value
