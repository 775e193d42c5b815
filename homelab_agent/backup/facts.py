"""What a person wants to know of all sets at once: on the page, in `backup status`, in `GET /metrics`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Gauge


@dataclass(frozen=True, slots=True)
class Facts:
    """Of so many `sets`, `done` have a copy of the last 24 hours, and `offsite` one away from this house.

    `frozen_ms` is for how long each container stood still in the last run, by set and container.
    """

    sets: int = 0
    done: int = 0
    offsite: int = 0
    frozen_ms: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def is_offsite(self) -> bool:
        """Whether every set has a copy away from this house."""
        return 0 < self.sets == self.offsite

    def __str__(self) -> str:
        still = {name: ms for of_set in self.frozen_ms.values() for name, ms in of_set.items()}
        longest = max(still, key=lambda name: still[name], default="")
        stood = f", longest still: {longest}, {still[longest]} ms" if longest else ""
        return f"{self.done} of {self.sets} sets in 24 h, off-site: {'yes' if self.is_offsite else 'no'}{stood}"

    def as_fields(self) -> dict[str, Any]:
        """Return what a program is told."""
        return {"sets": self.sets, "done_24h": self.done, "offsite": self.is_offsite, "frozen_ms": self.frozen_ms}


class Gauges:
    """The facts in `GET /metrics`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._sets = Gauge("homelab_agent_backup_sets", "Sets that are to be backed up.", registry=registry)
        self._done = Gauge(
            "homelab_agent_backup_sets_done", "Sets with a copy of the last 24 hours.", registry=registry
        )
        self._offsite = Gauge(
            "homelab_agent_backup_sets_offsite", "Sets with a copy away from this house.", registry=registry
        )
        self._frozen = Gauge(
            "homelab_agent_backup_frozen_seconds",
            "For how long a container stood still in its set's last run.",
            ["set", "container"],
            registry=registry,
        )

    def show(self, facts: Facts) -> None:
        """Take them over."""
        self._sets.set(facts.sets)
        self._done.set(facts.done)
        self._offsite.set(facts.offsite)
        self._frozen.clear()
        for name, of_set in facts.frozen_ms.items():
            for container, ms in of_set.items():
                self._frozen.labels(name, container).set(ms / 1000)
