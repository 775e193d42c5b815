"""What `homelab-agent doctor metrics` asks without a running agent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from homelab_agent.core.clock import Drift, SystemClock
from homelab_agent.core.health import Check, Finding
from homelab_agent.core.secret import Secrets
from homelab_agent.metrics.collection import Collection
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.sample import Status
from homelab_agent.metrics.settings import MetricsSettings
from homelab_agent.metrics.ticker import Tick


def checks(settings: MetricsSettings, _directory: Path, _secrets: Secrets) -> Sequence[Check]:
    """Return one check that asks every collector once."""

    async def collectors() -> Finding:
        now = SystemClock().read()
        collection = Collection(Host(""), settings)
        taken = await collection.take(Tick(now.wall, now, 0, Drift(0.0, 0.0)))
        if collection.trouble:
            words = "; ".join(f"{what}: {cause}" for what, cause in collection.trouble.items())
            return Finding.degraded(words, "homelab-agent metrics sample")
        missing = [name for name, (status, _) in taken.collectors.items() if status is Status.NOT_AVAILABLE]
        without = f"; this host has no {', '.join(missing)}" if missing else ""
        entities = sum(len(readings) for readings in taken.families.values())
        return Finding.ok(f"{entities} things measured in {taken.seconds * 1000:.0f} ms{without}")

    deadline = settings.collector_deadline * 10
    return (Check("metrics.collectors", collectors, deadline=deadline),)
