"""What `homelab-agent doctor metrics` asks without a running agent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from homelab_agent.core.clock import Drift, SystemClock
from homelab_agent.core.health import Check, Finding, State
from homelab_agent.core.secret import Secrets
from homelab_agent.metrics import failures
from homelab_agent.metrics.collection import Collection
from homelab_agent.metrics.collectors.units import Units
from homelab_agent.metrics.host import Host, NotAvailable
from homelab_agent.metrics.probes import Watch, check_name
from homelab_agent.metrics.sample import Status
from homelab_agent.metrics.settings import MetricsSettings
from homelab_agent.metrics.ticker import Tick


def checks(settings: MetricsSettings, _directory: Path, _secrets: Secrets) -> Sequence[Check]:
    """Return the checks that ask every collector once, which units have failed, and each service that is probed."""

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
        uncounted = f"; {collection.containers.lacking}" if collection.containers.lacking else ""
        return Finding.ok(f"{entities} things measured in {taken.seconds * 1000:.0f} ms{without}{uncounted}")

    async def units() -> Finding:
        try:
            families = await asyncio.to_thread(Units(Host(""), settings).collect)
        except NotAvailable as error:
            return Finding(State.NOT_AVAILABLE, str(error))
        return failures.of_units(families["unit"])

    deadline = settings.collector_deadline * 10
    watches = [Watch(probe, Host(""), SystemClock()) for probe in settings.probe]
    probes = [Check(check_name(one.probe), one.ask, deadline=one.probe.within + 1) for one in watches]
    return (
        Check("metrics.collectors", collectors, deadline=deadline),
        Check("metrics.units", units, deadline=deadline),
        *probes,
    )
