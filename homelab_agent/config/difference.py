"""What a changed configuration changes in the running agent, and what waits for a restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from homelab_agent.config import keys

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Changed(Generic[M]):
    """What follows from a new configuration.

    `applied` holds, for each section that has something to apply, the section as it is in force from now on:
    the old one with the new values of the keys marked `reload`. `keys` names those keys, `needs_restart` the
    other keys that differ, and sections that were switched on or off. `settings` is all that is in force from
    now on, what the next reload starts from.
    """

    settings: M
    applied: Mapping[str, BaseModel] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


def changes(old: M, new: M) -> Changed[M]:
    """Compare what is in force with what was read anew."""
    applied: dict[str, BaseModel] = {}
    live: list[str] = []
    waiting: list[str] = []
    for name in type(old).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        if not isinstance(before, BaseModel) or not isinstance(after, BaseModel):
            waiting.append(name)
            continue
        updated = _updated(before, after, name, live, waiting)
        if updated != before:
            applied[name] = updated
    return Changed(old.model_copy(update=applied), applied, tuple(live), tuple(waiting))


def _updated(before: BaseModel, after: BaseModel, path: str, live: list[str], waiting: list[str]) -> BaseModel:
    """Return `before` with what may change; name what does and what does not."""
    update: dict[str, Any] = {}
    for name, described in type(before).model_fields.items():
        was, becomes = getattr(before, name), getattr(after, name)
        if was == becomes:
            continue
        if keys.note(described, "reload"):
            update[name] = becomes
            live.append(f"{path}.{name}")
        elif isinstance(was, BaseModel) and isinstance(becomes, BaseModel):
            update[name] = _updated(was, becomes, f"{path}.{name}", live, waiting)
        else:
            waiting.append(f"{path}.{name}")
    return before.model_copy(update=update)
