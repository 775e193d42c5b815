"""The capability `metrics`: samples this host, shows the last hour, answers `GET /metrics`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from homelab_agent.core import journal
from homelab_agent.core.capability import Capability, Chart, Task
from homelab_agent.core.errors import describe
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Check, Finding, State
from homelab_agent.core.spool.status import NEWS
from homelab_agent.metrics import failures, rates, recent
from homelab_agent.metrics.collection import Collection
from homelab_agent.metrics.disk_health import DiskHealth
from homelab_agent.metrics.exposition import Exposition
from homelab_agent.metrics.facts import Facts
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.latest import Latest
from homelab_agent.metrics.probes import Probes
from homelab_agent.metrics.recent import Recent
from homelab_agent.metrics.roster import Roster
from homelab_agent.metrics.sampler import Destination, Sampler
from homelab_agent.metrics.settings import MetricsSettings
from homelab_agent.metrics.space import Space

log = journal.logger("metrics")


def build(settings: MetricsSettings, base: Foundation) -> Capability:
    """Return what the capability contributes."""
    service = Service(settings, base)
    return Capability(
        name="metrics",
        tasks=(
            Task("metrics.sampler", service.run, critical=True),
            Task("metrics.facts", service.facts.watch),
            Task("metrics.roster", service.roster.watch),
            Task("metrics.disks", service.disks.run),
            Task("metrics.space", service.space.run),
            *([Task("metrics.probes", service.probes.run)] if settings.probe else []),
        ),
        checks=(
            Check("metrics.sampling", service.sampling, every=15.0, blocks=frozenset({"watchdog"})),
            Check("metrics.collectors", service.collectors),
            Check("metrics.units", service.units),
            service.disks.check(),
            service.space.check(),
            *service.probes.checks(),
        ),
        summary=service.summary,
        charts=service.charts,
        exposition=service.exposition.text,
        reload=service.reload,
    )


class Service:
    """Holds the capability's parts together."""

    def __init__(self, settings: MetricsSettings, base: Foundation) -> None:
        self._base = base
        self._settings = settings
        host = Host(base.host, monotonic=lambda: base.clock.read().monotonic)
        self.probes = Probes(host, settings, base.clock, base.health.report)
        self.disks = DiskHealth(host, settings, base.clock, base.privileged, base.health.report)
        self.space = Space(host, base.clock, base.database, base.health.report)
        self._collection = Collection(host, settings, self.disks, self.space, self.probes)
        self._latest = Latest()
        self._recent = Recent()
        destination = Destination(base.host, base.spool, base.state, base.database)
        self._sampler = Sampler(base.clock, self._collection, destination, self._latest, self._recent)
        containers = self._collection.containers
        self.facts = Facts(
            host,
            settings,
            base.clock,
            base.state,
            base.spool,
            lambda: containers.images,
            synchronised=lambda: self._collection.clock_synchronised,
        )
        self.roster = Roster(
            self._collection.containers,
            self._collection.unnamed,
            base.privileged,
            base.clock,
            lambda: self._settings.slow_interval,
        )
        self.exposition = Exposition(self._latest, host.monotonic)

    async def run(self) -> None:
        """Sample until cancelled; meanwhile fill the charts once from PostgreSQL."""
        seeding = asyncio.create_task(self._seed(), name="metrics.seed")
        try:
            await self._sampler.run()
        finally:
            seeding.cancel()

    def reload(self, settings: MetricsSettings) -> None:
        """Take new settings; they count at once."""
        self._settings = settings
        self._sampler.adopt(settings)
        self.facts.adopt(settings)

    def charts(self) -> Sequence[Chart]:
        """Return the last hour's charts."""
        return self._recent.charts(self._settings.interval)

    def summary(self) -> str:
        """Return how the host stands, in one line."""
        shares = {
            "CPU": self._largest("cpu", "busy_pct"),
            "memory": self._largest("memory", "used_pct"),
            "fullest filesystem": self._largest("filesystem", "used_pct"),
        }
        parts = [f"{what} {recent.percent(share)}" for what, share in shares.items() if share is not None]
        if (hottest := self._largest("temperature", "celsius")) is not None:
            parts.append(f"{hottest:.0f}{recent.NO_BREAK}°C")
        return ", ".join(parts) or "no sample yet"

    async def sampling(self) -> Finding:
        """Say whether the last due sample was dealt with: stored, spooled, or its loss counted."""
        now, sampler = self._base.clock.read(), self._sampler
        silent = now.monotonic - sampler.beat
        longest = self._settings.interval * rates.LONGEST_IN_INTERVALS + self._collection.patience
        if silent > longest:
            return Finding.failed(
                f"no sample for {silent:.0f} s; one is due every {self._settings.interval} s",
                "systemctl restart homelab-agent",
            )
        if sampler.lost_at is not None and now.wall - sampler.lost_at < NEWS:
            detail = f"samples lost: {sampler.lost}, the last at {sampler.lost_at:%Y-%m-%d %H:%M} UTC: {sampler.loss}"
            return Finding.degraded(detail, "homelab-agent doctor agent")
        return Finding.ok(f"a sample every {self._settings.interval} s, {self._latest.samples} since the start")

    async def collectors(self) -> Finding:
        """Say what does not answer."""
        trouble = self._collection.trouble
        if not trouble:
            nameless = f"containers go by their ids: {self.roster.cause}" if self.roster.cause else ""
            said = filter(None, ("every collector answers", self._collection.containers.lacking, nameless))
            return Finding.ok("; ".join(said))
        what = next(iter(trouble))
        repair = f"umount -f -l {what}" if what.startswith("/") else "homelab-agent metrics sample"
        return Finding.degraded("; ".join(f"{name}: {cause}" for name, cause in trouble.items()), repair, about=trouble)

    async def units(self) -> Finding:
        """Say which units of systemd have failed."""
        if (lacking := self._collection.lacking.get("unit")) is not None:
            return Finding(State.NOT_AVAILABLE, lacking)
        readings = self._latest.families.get("unit")
        if readings is None:
            return Finding.ok("no sample yet")
        age = self._base.clock.read().monotonic - self._latest.read_at["unit"]
        if age > self._settings.slow_step * rates.LONGEST_IN_INTERVALS:
            cause = self._collection.trouble.get("unit", "no sample was taken")
            return Finding.degraded(f"not known for {age:.0f} s: {cause}", "homelab-agent metrics sample")
        return failures.of_units(readings)

    def _largest(self, family: str, column: str) -> float | None:
        values = [reading.values.get(column) for reading in self._latest.families.get(family, ())]
        return max((value for value in values if isinstance(value, int | float)), default=None)

    async def _seed(self) -> None:
        """Ask PostgreSQL for the last hour, once it can be asked."""
        try:
            await self._base.database.wait_until_up()
            await self._recent.seed(self._base.database, self._base.host, self._base.clock.read().wall)
        except Exception as error:  # noqa: BLE001 - a chart without its past is no reason to stop sampling
            log.warning("metrics.charts_not_seeded", cause=describe(error))
