"""What a key accepts, in plain words; faults, the sample and the reference all say it the same way."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from homelab_agent.config.keys import Model

_ALTERNATIVES = re.compile(r"\^\(?((?:[\w-]+\|)*[\w-]+)\)?\$")
_STEPS = {
    "bytes": ((1024**4, "TiB"), (1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")),
    "s": ((86400, "d"), (3600, "h"), (60, "min")),
}


def accepts(model: Model, name: str, *, item: bool = False) -> str:
    """Return what one key of a section accepts, or one item of its list: "a number from 1 to 600, in s"."""
    schema = _schema(model)
    described = schema["properties"][name]
    unit = str(described.get("unit") or "")
    said = _say(described.get("items", described) if item else described, schema.get("$defs", {}), unit)
    return f"{said}, in {unit}" if unit else said


@functools.cache
def _schema(model: Model) -> dict[str, Any]:
    return model.model_json_schema()


def quantity(value: float, unit: str) -> str:
    """Return a number as a person reads it: 134217728 in bytes is "134217728 (128 MiB)"."""
    number = f"{value:.0f}" if value == int(value) else f"{value:g}"
    for size, name in _STEPS.get(unit, ()):
        if value >= size and value % size == 0:
            return f"{number} ({value / size:.0f} {name})"
    return number


def _say(schema: Mapping[str, Any], shared: Mapping[str, Any], unit: str) -> str:  # noqa: PLR0911 - one for each kind
    if "$ref" in schema:
        return _say(shared[schema["$ref"].rsplit("/", 1)[-1]], shared, unit)
    if options := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        said = [_say(one, shared, unit) for one in options if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(said))
    if values := schema.get("enum") or [schema[name] for name in ("const",) if name in schema]:
        return _one_of([str(value) for value in values])
    match schema.get("type"):
        case "integer" | "number" as kind:
            return f"a {'whole ' if kind == 'integer' else ''}number{_bounds(schema, unit)}"
        case "boolean":
            return "true or false"
        case "string":
            return _text(schema)
        case "array":
            return _list(schema, shared, unit)
        case "object":
            return "a table"
    return "a value"


def _bounds(schema: Mapping[str, Any], unit: str) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f" from {quantity(low, unit)} to {quantity(high, unit)}"
    bounds = (
        ("of at least", low), ("above", above), ("of at most", high), ("below", below)
    )  # fmt: skip
    said = [f" {word} {quantity(bound, unit)}" for word, bound in bounds if bound is not None]
    return " and".join(said)


def _text(schema: Mapping[str, Any]) -> str:
    if pattern := schema.get("pattern"):
        alternatives = _ALTERNATIVES.fullmatch(pattern)
        return _one_of(alternatives[1].split("|")) if alternatives else f"text that matches {pattern}"
    kind = "a path" if schema.get("format") in {"path", "file-path", "directory-path"} else "text"
    shortest, longest = schema.get("minLength", 0), schema.get("maxLength")
    limits = []
    if shortest:
        limits.append("not empty" if shortest == 1 else f"at least {shortest} characters")
    if longest is not None:
        limits.append(f"at most {longest} characters")
    return ", ".join([kind, *limits])


def _list(schema: Mapping[str, Any], shared: Mapping[str, Any], unit: str) -> str:
    shortest, longest = schema.get("minItems", 0), schema.get("maxItems")
    items = schema.get("items")
    item = _say(items, shared, unit) if items else ""
    said = "a list of text" if item == "text" else f"a list, each {item}" if item else "a list"
    if shortest:
        said += f", at least {shortest}"
    if longest is not None:
        said += f", at most {longest}"
    return said


def _one_of(values: list[str]) -> str:
    return values[0] if len(values) == 1 else f"one of {', '.join(values)}"
