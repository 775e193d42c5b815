"""What the sections describe, key by key: the one place that looks inside pydantic's models."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

Model = type[BaseModel]
Step = str | int
KeyPath = tuple[Step, ...]
"""Where a value stands: ("web", "listen"), or with an index ("gitops", "repository", 0, "branch")."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Key:
    """One key that a person can set; `path` carries no index."""

    path: tuple[str, ...]
    field: FieldInfo

    def note(self, name: str) -> Any:
        """Return what `setting` was told beside bounds: "unit", "reload", "renamed_from", "example"."""
        return note(self.field, name)

    @property
    def renamed_from(self) -> tuple[str, ...] | None:
        """Return the key's old path; it was told as a name in the same table, or dotted from the top."""
        old = self.note("renamed_from")
        if not old:
            return None
        return tuple(old.split(".")) if "." in old else (*self.path[:-1], old)

    @property
    def empty(self) -> bool:
        """Whether the key has no value until someone gives it one."""
        return self.field.is_required() or self.default is None

    @property
    def default(self) -> Any:
        """Return the default as JSON has it; None when there is none."""
        if self.field.is_required():
            return None
        return plain(self.field.get_default(call_default_factory=True, validated_data={}))


@dataclass(frozen=True, slots=True)
class Group:
    """One table of the file: a section, a table in it, or an entry of an array of tables (`repeated`).

    `optional` groups are off until they are there.
    """

    path: tuple[str, ...]
    model: Model
    optional: bool
    repeated: bool
    keys: tuple[Key, ...]


def groups(root: Model) -> Iterator[Group]:
    """Yield every table that the file may have, in the order in which the sample shows them."""
    for name, field in root.model_fields.items():
        yield from _groups((name,), field, optional=False)


def _groups(path: tuple[str, ...], field: FieldInfo, *, optional: bool) -> Iterator[Group]:
    model = table(field.annotation)
    repeated = model is None
    model = model or entry(field.annotation)
    if model is None:
        return
    optional = optional or repeated or field.is_required() or field.default is None
    inner = {name: one for name, one in model.model_fields.items() if table(one.annotation) or entry(one.annotation)}
    keys = tuple(Key((*path, name), one) for name, one in model.model_fields.items() if name not in inner)
    yield Group(path, model, optional, repeated, keys)
    for name, one in inner.items():
        yield from _groups((*path, name), one, optional=optional)


def note(field: FieldInfo, name: str) -> Any:
    """Return one of the things that `setting` was told of a field beside pydantic's own."""
    return field.json_schema_extra.get(name) if isinstance(field.json_schema_extra, dict) else None


def table(annotation: Any) -> Model | None:
    """Return the model of a key that holds a table (`Gate`, `Gate | None`), else None."""
    return next((one for one in _options(annotation) if isinstance(one, type) and issubclass(one, BaseModel)), None)


def entry(annotation: Any) -> Model | None:
    """Return the model of the entries of a key that holds an array of tables, else None."""
    lists = [one for one in _options(annotation) if get_origin(one) in {list, tuple, Sequence}]
    return next((model for one in lists for item in get_args(one) if (model := table(item))), None)


def takes_only_text(annotation: Any) -> bool:
    """Return whether a value given as text is meant as it stands, not as a TOML value."""
    return all(isinstance(one, type) and issubclass(one, str | Path | Enum | SecretStr) for one in _options(annotation))


def _options(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return [one for part in get_args(annotation) if part is not type(None) for one in _options(part)]
    return [annotation]


def find(root: Model, path: KeyPath) -> FieldInfo | None:
    """Return what describes the value at `path`, else None."""
    field: FieldInfo | None = None
    model: Model | None = root
    for step in path:
        if isinstance(step, int):
            continue
        field = model.model_fields.get(step) if model else None
        if field is None:
            return None
        model = table(field.annotation) or entry(field.annotation)
    return field


def names(root: Model) -> list[str]:
    """Return the dotted name of every table and key."""
    return [dotted(path) for group in groups(root) for path in (group.path, *(key.path for key in group.keys))]


def dotted(path: KeyPath) -> str:
    """Return a key path as a person writes it; entries of an array of tables count from 1."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step + 1}]"
        else:
            text += ("." if text else "") + quoted(step)
    return text


def quoted(name: str) -> str:
    """Return a key's name as TOML writes it."""
    return name if _BARE.fullmatch(name) else toml(name)


def toml(value: Any) -> str:
    """Return a plain value as TOML writes it, on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case Mapping():
            return "{" + ", ".join(f"{quoted(name)} = {toml(one)}" for name, one in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(toml(one) for one in value) + "]"
        case str():
            return '"' + "".join(_escaped(character) for character in value) + '"'
    return str(value)


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"


def plain(value: Any) -> Any:
    """Return a setting's value as JSON has it; a secret stays hidden."""
    match value:
        case BaseModel():
            return value.model_dump(mode="json")
        case Mapping():
            return {str(name): plain(one) for name, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(one) for one in value]
        case Enum():
            return value.value
        case None | bool() | int() | float() | str():
            return value
    return str(value)


def value_at(data: Any, path: KeyPath) -> Any:
    """Return what stands at `path` in nested tables and lists, None where nothing does."""
    for step in path:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return None
    return data
