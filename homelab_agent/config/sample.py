"""Writes the commented `config.toml`: every key with its description, what it accepts and its default."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

from homelab_agent.config import keys, profile, words
from homelab_agent.config.keys import Group, Key, Model

WIDTH = 100
_EMPTY: tuple[Any, ...] = (None, "", [], {})
_HEAD = """
The configuration of homelab-agent: every key, with what it accepts and its default. What stands here is in
force without this file too; a key or section that is commented out has no value, or is off, until it is
there, or has the default that is told: a profile may set another, which a key that is there keeps it from.

`homelab-agent config check` names everything that is wrong with it, `config show` what is in force and where
it came from, `config set KEY VALUE` changes one key. A variable HOMELAB_AGENT__SECTION__KEY in the
environment goes before this file.
"""


def sample(root: Model) -> str:
    """Return the sample as text; read as configuration it says exactly the defaults."""
    lines = list(_comment(_HEAD))
    for group in keys.groups(root):
        lines += ["", "", *_comment(documentation(group.model)), _header(group)]
        for key in group.keys:
            lines += [
                "",
                *_comment(str(key.field.description or "")),
                *_comment(facts(group, key)),
                _assignment(group, key),
            ]
    return "\n".join(lines) + "\n"


def documentation(model: Model) -> str:
    """Return what a section is about: its docstring."""
    return inspect.cleandoc(model.__doc__ or "")


def facts(group: Group, key: Key) -> str:
    """Return what a key accepts, its default and when it applies: "A number from 1, in s. Default: 20."."""
    said = words.accepts(group.model, key.path[-1])
    live = not group.optional and not key.empty
    known = f"these {len(key.default)}" if live and _is_long(key) else default(key)
    parts = [
        f"{said[:1].upper()}{said[1:]}.",
        "Must be set." if key.field.is_required() else f"Default: {known}.",
    ]
    if _example(key) is not None and live and _shown(key) == key.default:
        parts.append(f"Example: {keys.toml(_example(key))}.")
    for name, value in profile.of_key(key.path).items():
        parts.append(f"With profile {name}: {words.quantity(value, str(key.note('unit') or ''))}.")
    if key.note("reload"):
        parts.append("Applies on reload.")
    return " ".join(parts)


def default(key: Key) -> str:
    """Return a key's default as a person reads it."""
    value = key.default
    if value in _EMPTY:
        return "empty"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return words.quantity(value, str(key.note("unit") or ""))
    return keys.toml(value)


def _header(group: Group) -> str:
    name = keys.dotted(group.path)
    header = f"[[{name}]]" if group.repeated else f"[{name}]"
    return f"# {header}" if group.optional else header


def _assignment(group: Group, key: Key) -> str:
    """Return the key's line: live with its default, or commented out where there is none to be in force.

    So is one that a profile sets: what is written goes before it.
    """
    shown = _shown(key)
    live = not group.optional and not key.empty and shown == key.default and not profile.of_key(key.path)
    name = keys.quoted(key.path[-1])
    if live and _is_long(key):
        return f"{name} = [\n{_wrapped(shown)}\n]"
    line = f"{name} = {keys.toml('' if shown is None else shown)}"
    return line if live else f"# {line}"


def _shown(key: Key) -> Any:
    """Return what stands beside the key: its default, or an example where the default is empty."""
    return _example(key) if key.default in _EMPTY and _example(key) is not None else key.default


def _example(key: Key) -> Any:
    return keys.plain(key.note("example"))


def _is_long(key: Key) -> bool:
    return isinstance(key.default, list) and len(keys.toml(key.default)) > WIDTH // 2


def _wrapped(values: list[Any]) -> str:
    """Return a list's items over as many lines as they need."""
    lines = [""]
    for value in values:
        item = f"{keys.toml(value)}, "
        if len(lines[-1]) + len(item) > WIDTH - 4:
            lines.append("")
        lines[-1] += item
    return "\n".join(f"    {line.rstrip()}" for line in lines)


def _comment(text: str) -> Iterator[str]:
    for paragraph in text.strip().split("\n\n"):
        if paragraph != text.strip().split("\n\n")[0]:
            yield "#"
        for line in textwrap.wrap(
            " ".join(paragraph.split()), WIDTH - 2, break_long_words=False, break_on_hyphens=False
        ):
            yield f"# {line}"
