"""Makes what was read what the sections expect: sane values, present names, nothing for "unset"."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from homelab_agent.config import keys, secrecy
from homelab_agent.config.faults import Fault, Source
from homelab_agent.config.keys import Key, KeyPath, Model

DEEPEST = 12
"""Tables and lists in one another; the sections need four."""


def remove_outlandish(data: dict[str, Any], source: Source) -> list[Fault]:
    """Take out what no key accepts and JSON cannot carry, with a fault for each."""
    found: list[Fault] = []

    def visit(holder: Any, path: KeyPath) -> None:
        pairs = list(holder.items() if isinstance(holder, dict) else enumerate(holder))
        for step, value in reversed(pairs):  # from the end, so that the rest of a list keeps its places
            here = (*path, step)
            if problem := _outlandish(value, len(here)):
                found.append(Fault(keys.dotted(here), source.where(here), problem, _short(here, value)))
                del holder[step]
            elif isinstance(value, dict | list):
                visit(value, here)

    visit(data, ())
    return found[::-1]


def _outlandish(value: Any, depth: int) -> str:
    match value:
        case bool():
            return ""
        case int() if not -(2**63) <= value < 2**63:
            return "expected a whole number of 64 bits"
        case float() if not math.isfinite(value):
            return "expected a finite number"
        case dict() | list() if depth > DEEPEST:
            return f"nested deeper than {DEEPEST}"
    return ""


def _short(path: KeyPath, value: Any) -> str:
    """Return the value, of a huge number its beginning; Python refuses to write those in decimal."""
    if isinstance(value, int):
        text = hex(value)
        return text if len(text) <= 20 else f"{text[:20]}…"
    return secrecy.shown(path, value) if isinstance(value, float) else ""


def adopt_old_names(data: dict[str, Any], model: Model, source: Source) -> tuple[list[str], list[Fault]]:
    """Move values from keys' old names to the present ones; return warnings, and faults for both."""
    warnings: list[str] = []
    doubled: list[Fault] = []
    for group in keys.groups(model):
        for key in group.keys:
            for old, new in _renamings(data, group.path, key):
                value = keys.value_at(data, old)
                if value is None:
                    continue
                where, was, now = source.where(old), keys.dotted(old), keys.dotted(new)
                _remove(data, old, model)
                if keys.value_at(data, new) is not None:
                    doubled.append(Fault(was, where, f"is the old name of {now}, which is set too"))
                    continue
                source.written[new] = old
                if old in source.given:
                    source.given[new] = source.given[old]
                put(data, new, value)
                warnings.append(f"{where}: {was} is called {now} now; its old name will be gone in two releases")
    return warnings, doubled


def _renamings(data: dict[str, Any], table: tuple[str, ...], key: Key) -> Iterator[tuple[KeyPath, KeyPath]]:
    old = key.renamed_from
    if old is None:
        return
    if old[:-1] != table:
        yield old, key.path
        return
    for at in _tables(data, table):
        yield (*at, old[-1]), (*at, key.path[-1])


def drop_empty(data: dict[str, Any], model: Model) -> None:
    """Remove empty text where a key's default is to have no value: `state = ""` means the default."""
    for group in keys.groups(model):
        for key in group.keys:
            if key.default is None:
                for at in _tables(data, group.path):
                    if keys.value_at(data, (*at, key.path[-1])) == "" and not key.field.is_required():
                        _remove(data, (*at, key.path[-1]), model)


def put(data: Any, path: KeyPath, value: Any) -> None:
    """Set one value; where something else than a table is on the way, that is the fault to tell."""
    for step in path[:-1]:
        data = data.setdefault(step, {}) if isinstance(data, dict) else data[step]
        if not isinstance(data, dict | list):
            return
    if isinstance(data, dict):
        data[path[-1]] = value


def _tables(data: Any, path: tuple[str, ...], at: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield where the tables called `path` are: each entry, where one on the way is an array of tables."""
    if isinstance(data, list):
        for index, one in enumerate(data):
            yield from _tables(one, path, (*at, index))
    elif isinstance(data, dict) and not path:
        yield at
    elif isinstance(data, dict) and path[0] in data:
        yield from _tables(data[path[0]], path[1:], (*at, path[0]))


def _remove(data: dict[str, Any], path: KeyPath, model: Model) -> None:
    """Remove one value, and the table it was in when that is empty now and no longer known."""
    above = keys.value_at(data, path[:-1])
    del above[path[-1]]
    if path[:-1] and not above and keys.find(model, path[:-1]) is None:
        del keys.value_at(data, path[:-2])[path[-2]]
