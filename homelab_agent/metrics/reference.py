"""What a payload of the reference's table `system_metrics` says, as values of our families: pure.

cpu: `usage` in per cent, `package_temp` and `core_temps` (`core_N`) in degrees Celsius; memory: bytes, `used_percent`;
disk: by mount point; network: by interface. `schema/0003_facts.sql` makes the same of our own tables.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from homelab_agent.metrics.sample import Values

PACKAGE = "coretemp Package id 0"
LONGEST_NAME = 1000
_MOST_BYTES = 2**63 - 1
_CORE = re.compile(r"core_([0-9]{1,6})")
_SLACK = 0.01
"""How far beyond 100 per cent rounding may lead."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a payload says of one line of a family; the label is "" for the host as a whole."""

    family: str
    label: str
    values: Values


@dataclass(slots=True)
class Understood:
    """What a payload says, what in it could not be read (why), and which keys have no column here."""

    said: list[Said] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)


Number: TypeAlias = "int | float | None"
Check: TypeAlias = Callable[[Any], Number]


def read(kind: str, payload: str | None) -> Understood:
    """Return what a row of this `metric_type` says; whatever is wrong with it is in the answer."""
    found = Understood()
    reader = _READERS.get(kind)
    if reader is None:
        found.faults.append(f"metric_type {_shown(kind)} is none of {', '.join(_READERS)}")
        return found
    try:
        parsed = json.loads(payload or "")
    except (ValueError, RecursionError):
        found.faults.append(f"{kind}: the payload is no JSON")
        return found
    if isinstance(parsed, dict):
        reader(parsed, found)
        if not found.said and not found.faults:
            found.faults.append(f"{kind}: the payload says nothing")
    else:
        found.faults.append(f"{kind}: the payload is no object")
    return found


def is_name(text: str | None) -> bool:
    """Whether something can be called so."""
    return text is not None and 0 < len(text) <= LONGEST_NAME and not any("\ud800" <= sign <= "\udfff" for sign in text)


def _cpu(payload: Mapping[str, Any], found: Understood) -> None:
    """Read the whole host's CPU; sensors that it lacks are no fault."""
    _say(found, "cpu", "cpu", "", payload)
    _strange(found, "cpu", payload, {"usage", "package_temp", "core_temps"})
    if "package_temp" in payload:
        _warm(found, "package_temp", PACKAGE, payload["package_temp"])
    cores = payload.get("core_temps")
    if cores is not None and not isinstance(cores, dict):
        found.faults.append("cpu: core_temps is no object")
        return
    for name, value in (cores or {}).items():
        if core := _CORE.fullmatch(name):
            _warm(found, "core_temps.*", f"coretemp Core {int(core[1])}", value)
        else:
            found.strange.append(f"cpu: core_temps.{_shown(name)}")


def _memory(payload: Mapping[str, Any], found: Understood) -> None:
    _say(found, "memory", "memory", "", payload)
    _strange(found, "memory", payload, _COLUMNS["memory"].keys())


def _disk(payload: Mapping[str, Any], found: Understood) -> None:
    for label, one in _lines("disk", payload, found):
        _say(found, "disk", "filesystem", label, one)
        _strange(found, "disk.*", one, _COLUMNS["filesystem"].keys())
        if found.said and (last := found.said[-1]).label == label:
            size, used = last.values["size_bytes"], last.values["used_bytes"]
            free = size - used if isinstance(size, int) and isinstance(used, int) and size >= used else None
            last.values["free_bytes"] = free  # statvfs(3): used is what is not free


def _network(payload: Mapping[str, Any], found: Understood) -> None:
    for label, one in _lines("network", payload, found):
        _say(found, "network", "network", label, one)
        _strange(found, "network.*", one, _COLUMNS["network"].keys())


_READERS: Mapping[str, Callable[[Mapping[str, Any], Understood], None]] = {
    "cpu": _cpu,
    "memory": _memory,
    "disk": _disk,
    "network": _network,
}


def _lines(kind: str, payload: Mapping[str, Any], found: Understood) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the objects of a payload by their names."""
    for label, one in payload.items():
        if not is_name(label):
            found.faults.append(f"{kind}: a name is empty, no text, or longer than {LONGEST_NAME} letters")
        elif isinstance(one, dict):
            yield label, one
        else:
            found.faults.append(f"{kind}: what stands under a name is no object")


def _say(found: Understood, kind: str, family: str, label: str, payload: Mapping[str, Any]) -> None:
    """Take a line's values; one that is null is not known, and where none could be read there is no line."""
    values: Values = {}
    readable = 0
    for name, (column, check) in _COLUMNS[family].items():
        values[column] = None
        if name not in payload:
            found.faults.append(f"{kind}: {name} is missing")
            continue
        try:
            values[column] = check(payload[name])
            readable += 1
        except ValueError as error:
            found.faults.append(f"{kind}: {name} is {error}")
    if readable:
        found.said.append(Said(family, label, values))


def _warm(found: Understood, name: str, label: str, value: Any) -> None:
    try:
        celsius = _celsius(value)
    except ValueError as error:
        found.faults.append(f"cpu: {name} is {error}")
        return
    if celsius is not None:
        found.said.append(Said("temperature", label, {"celsius": celsius}))


def _strange(found: Understood, kind: str, payload: Mapping[str, Any], known: Any) -> None:
    found.strange += [f"{kind}: {_shown(name)}" for name in payload if name not in known]


def _number(value: Any) -> Number:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        message = "no number"
        raise ValueError(message)  # noqa: TRY004 - whatever is wrong with it is one thing
    if isinstance(value, float) and not math.isfinite(value):
        message = "not finite"
        raise ValueError(message)
    return value


def _bytes(value: Any) -> Number:
    number = _number(value)
    if number is None:
        return None
    if number != int(number):
        message = "no whole number of bytes"
        raise ValueError(message)
    if not 0 <= number <= _MOST_BYTES:
        message = "below 0, or more bytes than there are"
        raise ValueError(message)
    return int(number)


def _per_cent(value: Any) -> Number:
    number = _number(value)
    if number is None:
        return None
    if not -_SLACK <= number <= 100 + _SLACK:
        message = "not between 0 and 100 per cent"
        raise ValueError(message)
    return float(number)


def _celsius(value: Any) -> Number:
    number = _number(value)
    if number is None:
        return None
    if not -273.15 <= number <= 1000:
        message = "no temperature in degrees Celsius"
        raise ValueError(message)
    return float(number)


_COLUMNS: Mapping[str, Mapping[str, tuple[str, Check]]] = {
    "cpu": {"usage": ("busy_pct", _per_cent)},
    "memory": {
        "total": ("total_bytes", _bytes),
        "available": ("available_bytes", _bytes),
        "used": ("used_bytes", _bytes),
        "used_percent": ("used_pct", _per_cent),
    },
    "filesystem": {
        "total": ("size_bytes", _bytes),
        "used": ("used_bytes", _bytes),
        "free": ("available_bytes", _bytes),
        "used_percent": ("used_pct", _per_cent),
    },
    "network": {"rx_bytes": ("rx_bytes", _bytes), "tx_bytes": ("tx_bytes", _bytes)},
}
"""Of each family: by the payload's key the column, and what may stand there."""


def _shown(name: str) -> str:
    """Return a name as it may be counted and printed."""
    return repr(name[:60])
