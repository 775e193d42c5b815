"""Keys given by the environment: `HOMELAB_AGENT__WEB__LISTEN` is `web.listen`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic.fields import FieldInfo

from homelab_agent.config import keys
from homelab_agent.config.faults import Fault, unknown
from homelab_agent.config.keys import Model

PREFIX = "HOMELAB_AGENT__"


@dataclass(frozen=True, slots=True)
class Override:
    """One variable that sets a key; `value` has the type that TOML would give it."""

    variable: str
    path: tuple[str, ...]
    value: Any


def overrides(environ: Mapping[str, str], model: Model) -> tuple[list[Override], list[Fault]]:
    """Return the keys that `environ` sets, and a fault for each variable that names none."""
    known = variables(model)
    found, faults = [], []
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        text = environ[variable]
        if variable not in known:
            path = tuple(variable.removeprefix(PREFIX).lower().split("__"))
            fault = unknown(path, _decodable(text), model, f"${_decodable(variable)}")
            near = f"${variable_of(tuple(fault.nearest.split('.')))}" if fault.nearest else ""
            faults.append(replace(fault, nearest=near))
        elif _decodable(text) != text:
            faults.append(Fault(keys.dotted(known[variable][0]), f"${variable}", "not UTF-8"))
        else:
            path, described = known[variable]
            found.append(Override(variable, path, typed(described, text)))
    return found, faults


def variables(model: Model) -> dict[str, tuple[tuple[str, ...], FieldInfo]]:
    """Return every variable that sets a key; an array of tables comes as one value."""
    found: dict[str, tuple[tuple[str, ...], FieldInfo]] = {}
    repeated: list[tuple[str, ...]] = []
    for group in keys.groups(model):
        if any(group.path[: len(above)] == above for above in repeated):
            continue
        if group.repeated:
            repeated.append(group.path)
            described = keys.find(model, group.path)
            given = [(group.path, described)] if described else []
        else:
            given = [(path, key.field) for key in group.keys for path in (key.path, key.renamed_from) if path]
        found |= {variable_of(path): (path, described) for path, described in given}
    return found


def variable_of(path: tuple[str, ...]) -> str:
    """Return the variable that sets the key at `path`."""
    return PREFIX + "__".join(path).upper()


def typed(described: FieldInfo | None, text: str) -> Any:
    """Return `text` as a key's type wants it: as it stands for text, else as a TOML value where it is one."""
    if described is not None and keys.takes_only_text(described.annotation):
        return text
    try:
        data = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return data["value"] if data.keys() == {"value"} else text


def _decodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
