"""YAML of plain values, as much of it as a file of alert rules needs: SQL stays readable, line by line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def written(value: Mapping[str, Any]) -> str:
    """Return the document's text."""
    return "\n".join(_lines(value, "")) + "\n"


def _lines(value: Any, indent: str) -> Sequence[str]:
    match value:
        case Mapping() if value:
            return [line for name, inner in value.items() for line in _named(name, inner, indent)]
        case list() | tuple() if value:
            return [line for inner in value for line in _item(inner, indent)]
    return [indent + _scalar(value)]


def _named(name: str, value: Any, indent: str) -> Sequence[str]:
    if isinstance(value, Mapping | list | tuple) and value:
        return [f"{indent}{name}:", *_lines(value, indent + "  ")]
    if isinstance(value, str) and "\n" in value:
        return [f"{indent}{name}: |-", *(f"{indent}  {line}" for line in value.splitlines())]
    return [f"{indent}{name}: {_scalar(value)}"]


def _item(value: Any, indent: str) -> Sequence[str]:
    first, *rest = _lines(value, indent + "  ")
    return [f"{indent}- {first.removeprefix(indent + '  ')}", *rest]


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    text = json.dumps(value, ensure_ascii=False)
    # To YAML 1.1, 1e-07 is a text.
    return text.replace("e", ".0e") if isinstance(value, float) and "." not in text else text
