"""Which line of ours a line of the reference goes on: pure.

The reference knows a mount point, an interface, a sensor by its name alone, which is our label; the agent knows it by a
key that stays (UUID, MAC address, the chip's device). So where this host has one line of that family and label, and no
other, it goes on in that; else in one whose key is the name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from homelab_agent.metrics.entity import Entity, identify, legible

_WHOLE = "total"
"""What the agent calls the host as a whole."""
_CORETEMP = "coretemp platform/coretemp.0 "
"""What begins the key of a sensor of the one chip that the reference reads, where the host has one processor."""
_PACKAGES = ("coretemp Package", "k10temp T", "zenpower T", "cpu_thermal ")
"""What the view `system_metrics` takes for a processor's temperature."""


@dataclass(frozen=True, slots=True)
class Known:
    """An entity that the database has."""

    host: str
    entity: Entity


class Lines:
    """Finds each line's entity, once; `chosen` are those that were joined before, so that none changes on the way."""

    def __init__(self, known: Iterable[Known], chosen: Mapping[str, int] | None = None) -> None:
        self._by_label: dict[tuple[str, str, str], list[Entity]] = {}
        self._packages: dict[str, list[Entity]] = {}
        self._all: dict[int, Entity] = {}
        for one in known:
            entity = one.entity
            self._all[entity.id] = entity
            self._by_label.setdefault((one.host, entity.family, entity.label), []).append(entity)
            if entity.family == "temperature" and entity.label.startswith(_PACKAGES):
                self._packages.setdefault(one.host, []).append(entity)
        self._found: dict[tuple[str, str, str], Entity] = {}
        self._chosen = dict(chosen or {})
        self.joined: dict[tuple[str, str, str], Entity] = {}

    def get(self, host: str, family: str, label: str) -> Entity:
        """Return the entity of a line; the label is "" for the host as a whole."""
        names = (host, family, label)
        entity = self._found.get(names)
        if entity is None:
            entity = self._found[names] = self._find(host, family, label)
        return entity

    def chosen(self) -> Mapping[str, int]:
        """Return which lines go on in another; the others are found again by their own names."""
        return {**self._chosen, **{"\n".join(names): entity.id for names, entity in self.joined.items()}}

    def _find(self, host: str, family: str, label: str) -> Entity:
        own = _own(host, family, label)
        before = self._chosen.get(f"{host}\n{family}\n{label}")
        if before is not None:
            entity = self._all.get(before, own)
        elif own.id in self._all:
            return own
        else:
            candidates = self._candidates(host, family, own.label)
            entity = candidates[0] if len(candidates) == 1 else own
        if entity.id != own.id:
            self.joined[(host, family, label)] = entity
        return entity

    def _candidates(self, host: str, family: str, label: str) -> Sequence[Entity]:
        found = self._by_label.get((host, family, label), [])
        if not found and family == "temperature" and label.startswith(_PACKAGES):
            return self._packages.get(host, [])
        return found


def _own(host: str, family: str, label: str) -> Entity:
    """Return the entity that is known by the name alone; of the host as a whole, it is the agent's."""
    shown = legible(label or _WHOLE)
    key = _CORETEMP + shown.removeprefix("coretemp ") if family == "temperature" else shown
    return Entity(identify(host, family, key, shown), family, key, shown)
