"""What is wrong with a configuration: each fault's key, place, value, what is expected and what is near."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_core import ErrorDetails

from homelab_agent.config import keys, lines, secrecy, words
from homelab_agent.config.keys import KeyPath, Model
from homelab_agent.core.errors import AgentError, Exit

_SAID_BY_THE_SCHEMA = re.compile(
    r".*_type|.*_parsing|greater_than.*|less_than.*|string_.*|too_(short|long)|enum|literal_error|int_from_float"
    r"|finite_number|multiple_of|none_required"
)
_TOML_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    `where` is "FILE:LINE", "FILE" or "$VARIABLE"; `value` is masked, and "" for a table.
    """

    key: str
    where: str
    problem: str
    value: str = ""
    nearest: str = ""
    repair: str = ""

    def __str__(self) -> str:
        named = " = ".join(part for part in (self.key, self.value) if part)
        said = ": ".join(part for part in (self.where, named, self.problem) if part)
        near = f"; nearest: {self.nearest}" if self.nearest else ""
        return f"{said}{near}" + (f"; repair: {self.repair}" if self.repair else "")


class ConfigurationFaulty(AgentError):
    """The configuration is faulty."""

    exit_code = Exit.CONFIGURATION

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__()
        self.faults = tuple(faults)
        self.message = report(faults)

    def __str__(self) -> str:
        return self.message


def report(faults: Sequence[Fault]) -> str:
    """Return all faults, one a line, and their number in the last."""
    return "\n".join([*map(str, faults), count(len(faults), "fault")])


def place(fault: Fault) -> tuple[bool, str, int]:
    """Return a key to sort faults by: those of the file by line, then those of the environment."""
    file, _, line = fault.where.rpartition(":")
    if fault.where.startswith("$"):
        return (True, fault.where, 0)
    return (False, file, int(line)) if line.isdecimal() else (False, fault.where, 0)


def count(number: int, noun: str) -> str:
    """Return "1 fault", "2 faults"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(slots=True)
class Source:
    """Where the values came from: the file and its text, and what was given beside it.

    `given` names what a value that is not the file's was given by ("$HOMELAB_AGENT__WEB__LISTEN"); `written`
    maps a key to the old name that the file calls it by.
    """

    path: Path | None
    text: str = ""
    given: dict[KeyPath, str] = field(default_factory=dict)
    written: dict[KeyPath, KeyPath] = field(default_factory=dict)
    _map: lines.Map | None = None

    def where(self, path: KeyPath) -> str:
        """Return what gave the value at `path`, or the place of the table that it is missing from."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.given:
                return self.given[path[:end]]
        if self.path is None:
            return "configuration"
        line = self._surveyed().line(self.as_written(path))
        return f"{self.path}:{line}" if line else str(self.path)

    def origin(self, path: KeyPath) -> str:
        """Return where the value of a valid key came from: "FILE:LINE", "$VARIABLE" or "default"."""
        there = self._surveyed().lines
        return self.where(path) if self.is_given(path) or self.as_written(path) in there else "default"

    def _surveyed(self) -> lines.Map:
        if self._map is None:
            self._map = lines.survey(self.text)
        return self._map

    def is_given(self, path: KeyPath) -> bool:
        """Return whether the value at `path`, or one in it, came from beside the file."""
        return any(path[: len(one)] == one or one[: len(path)] == path for one in self.given)

    def as_written(self, path: KeyPath) -> KeyPath:
        """Return the name that the source calls `path` by."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.written:
                return (*self.written[path[:end]], *path[end:])
        return path


def from_validation(
    errors: Iterable[ErrorDetails], data: Mapping[str, Any], model: Model, source: Source
) -> list[Fault]:
    """Turn what pydantic found in `data` into faults, one for each key."""
    found: dict[KeyPath, list[ErrorDetails]] = {}
    for error in errors:
        found.setdefault(_path(error, data), []).append(error)
    return [_fault(path, same, data, model, source) for path, same in found.items()]


def _path(error: ErrorDetails, data: Any) -> KeyPath:
    """Return the key that an error is about; pydantic adds the names of union members and validators."""
    path: list[str | int] = []
    at = data
    for step in error["loc"]:
        if (isinstance(at, dict) and step in at) or (isinstance(at, list) and isinstance(step, int)):
            at = at[step]  # type: ignore[index]
            path.append(step)
        elif error["type"] == "missing" and step == error["loc"][-1]:
            path.append(step)
    return tuple(path)


def _fault(
    path: KeyPath, errors: Sequence[ErrorDetails], data: Mapping[str, Any], model: Model, source: Source
) -> Fault:
    value = keys.value_at(data, path)
    kinds = {error["type"] for error in errors}
    key = keys.dotted(source.as_written(path))
    where = source.where(path)
    if kinds == {"missing"}:
        return Fault(key, where, f"is missing: expected {_accepts(model, path)}")
    if kinds == {"extra_forbidden"}:
        return unknown(path, value, model, where)
    said = [error for error in errors if not _SAID_BY_THE_SCHEMA.fullmatch(error["type"])]
    if said and kinds.isdisjoint({"model_type", "model_attributes_type"}):
        problem = "; ".join(dict.fromkeys(_said(error) for error in said))
    else:
        problem = f"expected {_accepts(model, path)}"
    return Fault(key, where, problem, _shown(path, value, model) if value is not None else "")


def _shown(path: KeyPath, value: Any, model: Model) -> str:
    """Return a faulty value as it may be seen: one that stands where a reference to a secret belongs may be that."""
    field = keys.find(model, path)
    is_secret = field is not None and bool(keys.note(field, "secret"))
    if is_secret and isinstance(value, str) and value and not secrecy.is_reference(value):
        return secrecy.MASK
    return secrecy.shown(path, value)


def _said(error: ErrorDetails) -> str:
    """Return a validator's own words, or pydantic's where only it knows what is wrong (a date)."""
    cause = error.get("ctx", {}).get("error")
    text = str(cause) if isinstance(cause, Exception) and str(cause) else error["msg"]
    return secrecy.clean(text[:1].lower() + text[1:] if text[1:2].islower() else text)


def _accepts(model: Model, path: KeyPath) -> str:
    named = tuple(step for step in path if isinstance(step, str))
    field = keys.find(model, path)
    if field is None:
        return "a table"
    if keys.table(field.annotation) or (isinstance(path[-1], int) and keys.entry(field.annotation)):
        return f"a table ([{keys.dotted(named)}])"
    if keys.entry(field.annotation):
        return f"a list of tables ([[{keys.dotted(named)}]])"
    return words.accepts(_owner(model, named), named[-1], item=isinstance(path[-1], int))


def _owner(model: Model, named: tuple[str, ...]) -> Model:
    owner = model
    for name in named[:-1]:
        annotation = owner.model_fields[name].annotation
        inner = keys.table(annotation) or keys.entry(annotation)
        assert inner is not None  # noqa: S101 - keys.find walked the same way
        owner = inner
    return owner


def unknown(path: KeyPath, value: Any, model: Model, where: str) -> Fault:
    """Return the fault of a key or section that does not exist, with the nearest that does."""
    near = nearest(path, model)
    hidden = isinstance(value, str) and (secrecy.sounds_secret(path) or secrecy.is_secret(tuple(near.split("."))))
    shown = secrecy.MASK if hidden else secrecy.shown(path, value)
    what = "section" if len(path) == 1 and isinstance(value, dict) else "key"
    return Fault(keys.dotted(path), where, f"unknown {what}", shown, near)


def nearest(path: KeyPath, model: Model) -> str:
    """Return the valid key or section that is probably meant: of the same table, else of any; "" for none."""
    import difflib

    named = tuple(step for step in path if isinstance(step, str))
    valid = keys.names(model)
    table = [name for name in valid if name.rpartition(".")[0] == ".".join(named[:-1])]
    if near := difflib.get_close_matches(".".join(named), table, n=1):
        return near[0]
    same = [name for name in valid if name.rpartition(".")[2] == named[-1] and "." in name]
    return next(iter(same or difflib.get_close_matches(".".join(named), valid, n=1)), "")


def from_toml(error: ValueError, source: Source) -> Fault:
    """Turn a file that is not TOML into a fault with its line and column."""
    text = str(error)
    position = _TOML_POSITION.search(text)
    problem = text[: position.start()] if position else text
    line, column = (position[1], position[2]) if position and position[1] else (None, None)
    if line is None:
        line = str(source.text.count("\n") + 1)
    hint = "; text stands in quotes" if problem.startswith(("Invalid value", "Expected newline")) else ""
    at = f" (column {column})" if column else " (end of the file)" if position else ""
    problem = f"not TOML: {problem[:1].lower()}{problem[1:]}{at}{hint}"
    return Fault("", f"{source.path}:{line}", problem)
