"""Changes the text of a configuration: only what changes is touched, and the outcome is proven.

A value is exchanged where it stands; a new key takes the place of its commented-out line, or follows the
last key of its section; a new section takes the place of its commented-out header, or goes to the end. There
is more than one way to write TOML, so each place is a proposal: the first is taken whose content is the old
content with the change and nothing else. (tomlkit would put a new key behind the comments that introduce the
next section.)
"""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from homelab_agent.config import keys, lines


def assign(text: str, path: tuple[str, ...], value: Any) -> str | None:
    """Return `text` with the key at `path` set to `value`; None where it cannot be done safely."""
    expected = tomllib.loads(text)
    *above, name = path
    at: Any = expected
    for step in above:
        at = at.setdefault(step, {})
        if not isinstance(at, dict):
            return None
    at[name] = value
    return _proven(_assignments(text, path, value), expected)


def append(text: str, path: tuple[str, ...], entry: Mapping[str, Any]) -> str | None:
    """Return `text` with one more entry in the array of tables at `path`; None where that is not safe."""
    expected = tomllib.loads(text)
    *above, name = path
    at: Any = expected
    for step in above:
        at = at.setdefault(step, {})
        if not isinstance(at, dict):
            return None
    if not isinstance(at.setdefault(name, []), list):
        return None
    at[name] = [*at[name], copy.deepcopy(dict(entry))]
    return _proven(_additions(text, path, entry, at[name]), expected)


def _proven(proposals: Iterator[str], expected: Mapping[str, Any]) -> str | None:
    for proposal in proposals:
        try:
            if tomllib.loads(proposal) == expected:
                return proposal
        except ValueError:
            continue
    return None


def _assignments(text: str, path: tuple[str, ...], value: Any) -> Iterator[str]:
    there = lines.survey(text)
    if path in there.values:
        yield _exchanged(text, there.values[path], keys.toml(value))
        return
    for end in range(len(path) - 1, 0, -1):
        if path[:end] in there.values:  # an inline table
            yield _exchanged(text, there.values[path[:end]], keys.toml(_merged(text, path, end, value)))
            return
    above, assignment = path[:-1], f"{keys.quoted(path[-1])} = {keys.toml(value)}"
    for place, header in enumerate(there.headers):
        if header.path == above:
            following = there.headers[place + 1].start if place + 1 < len(there.headers) else len(text)
            yield from _in_section(text, header.end, (header.start, following), path[-1], assignment)
    if not above:
        yield f"{assignment}{_newline(text)}{text}"
        return
    commented = re.compile(rf"(?m)^#[ \t]*\[{re.escape(keys.dotted(above))}\][^\r\n]*")
    if found := commented.search(text):
        shown = _exchanged(text, found.span(), f"[{keys.dotted(above)}]")
        yield from _in_section(shown, found.start() + 1, (found.start(), len(shown)), path[-1], assignment)
    yield _at_end(text, f"[{keys.dotted(above)}]", assignment)


def _in_section(text: str, end: int, span: tuple[int, int], name: str, assignment: str) -> Iterator[str]:
    """Propose the key's commented-out line in the section at `span`, then that after its last statement."""
    off = re.compile(r"(?m)^#[ \t]*\[").search(text, span[0] + 1, span[1])
    commented = re.compile(rf"(?m)^#[ \t]*{re.escape(keys.quoted(name))}[ \t]*=[^\r\n]*")
    if found := commented.search(text, span[0], off.start() if off else span[1]):
        yield _exchanged(text, found.span(), assignment)
    yield _after_line(text, end, assignment)


def _additions(text: str, path: tuple[str, ...], entry: Mapping[str, Any], entries: list[Any]) -> Iterator[str]:
    block = [
        f"[[{keys.dotted(path)}]]",
        *(f"{keys.quoted(name)} = {keys.toml(one)}" for name, one in entry.items()),
    ]
    there = lines.survey(text)
    if path in there.values:
        yield _exchanged(text, there.values[path], keys.toml(entries))
        return
    siblings = [header.end for header in there.headers if header.path[: len(path)] == path]
    if siblings:
        yield _after_line(text, siblings[-1], "", *block)
    yield _at_end(text, *block)


def _merged(text: str, path: tuple[str, ...], end: int, value: Any) -> Any:
    data: Any = tomllib.loads(text)
    for step in path[:end]:
        data = data[step]
    inner = data
    for step in path[end:-1]:
        inner = inner.setdefault(step, {})
    inner[path[-1]] = value
    return data


def _exchanged(text: str, span: tuple[int, int], new: str) -> str:
    return text[: span[0]] + new + text[span[1] :]


def _after_line(text: str, offset: int, *new: str) -> str:
    newline = _newline(text)
    end = text.find("\n", offset)
    if end < 0:
        return text + newline + newline.join(new) + newline
    return text[: end + 1] + newline.join(new) + newline + text[end + 1 :]


def _at_end(text: str, *new: str) -> str:
    newline = _newline(text)
    between = newline if text and not text.endswith("\n") else ""
    return text + between + (newline if text else "") + newline.join(new) + newline


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
