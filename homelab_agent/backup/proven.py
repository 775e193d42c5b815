"""What is proven restorable: when, by which drill, and when that is too long ago; for checks, page and `/metrics`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Gauge

from homelab_agent.backup.catalogue import Catalogue, Drill
from homelab_agent.backup.settings import BackupSettings
from homelab_agent.core.clock import Clock
from homelab_agent.core.health import Finding

STALE = timedelta(weeks=5)
"""For each copy that has its turn: a drill a week may fail to take place, or be put off, a few times."""


class Proven:
    """Every method raises `StateUnavailable` when state.db cannot be read."""

    def __init__(
        self, settings: BackupSettings, catalogue: Catalogue, clock: Clock, registry: CollectorRegistry
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._clock = clock
        self._proofs: dict[str, datetime] = {}
        self._looked = False
        self._at = Gauge(
            "homelab_agent_backup_proven_timestamp_seconds",
            "When a set was last proven restorable.",
            ["set"],
            registry=registry,
        )
        self._ok = Gauge(
            "homelab_agent_backup_drill_success",
            "Whether the last drill of a set at an engine went well.",
            ["set", "engine"],
            registry=registry,
        )
        self._seconds = Gauge(
            "homelab_agent_backup_drill_seconds",
            "How long the last drill of a set at an engine took.",
            ["set", "engine"],
            registry=registry,
        )

    async def finding(self, name: str) -> Finding | None:
        """Say what is wrong with the proof of a set, None where nothing is."""
        drills = await self.refresh()
        repair = f"homelab-agent backup drill {name}"
        for (of, engine), last in drills.items():
            if of == name and not last.ok:
                said = f"the copy {last.archive} at {engine} is not proven restorable: {last.detail}"
                return Finding.degraded(said, last.repair or repair)
        proven = self._proofs.get(name)
        since = proven or min((one.at for one in await self._catalogue.entries(name)), default=None)
        if self._settings.drill_schedule and since and self._clock.read().wall - since > STALE * len(self.turns):
            return Finding.degraded(f"last proven restorable: {_day(proven)}", repair)
        return None

    def said(self, name: str) -> str:
        """Return when a set was proven, to be said after other things, as known since the last look; "" for never."""
        return f"; proven restorable {_day(self._proofs[name])}" if name in self._proofs else ""

    @property
    def turns(self) -> Sequence[tuple[str, str]]:
        """The sets with each of their engines, which are drilled one after the other."""
        return [(one.name, engine) for one in self._settings.set for engine in one.engines]

    @property
    def oldest(self) -> str:
        """Which set was proven longest ago, in words, as known since the last look; "" before it."""
        if not self._looked:
            return ""
        never = [one.name for one in self._settings.set if one.name not in self._proofs]
        if never:
            return f"never proven restorable: {', '.join(never)}"
        oldest = min(self._proofs, key=lambda name: self._proofs[name])
        return f"last proven restorable (oldest): {oldest}, {_day(self._proofs[oldest])}"

    async def refresh(self) -> Mapping[tuple[str, str], Drill]:
        """Look again, for the page and `/metrics`; return the last drills."""
        names = {one.name for one in self._settings.set}
        proofs, drills = await self._catalogue.proofs(), await self._catalogue.drills()
        self._proofs = {name: one.proven_at for name, one in proofs.items() if name in names and one and one.proven_at}
        self._looked = True
        for name, at in self._proofs.items():
            self._at.labels(name).set(at.timestamp())
        for (name, engine), last in drills.items():
            if name in names:
                self._ok.labels(name, engine).set(last.ok)
                self._seconds.labels(name, engine).set(last.seconds)
        return drills


def _day(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC" if at else "never"
