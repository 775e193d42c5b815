"""What a capability stands on, with a real state, spool and PostgreSQL; what is put in the spool is shipped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path

from prometheus_client import CollectorRegistry

import homelab_agent
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Health
from homelab_agent.core.jobs import Jobs
from homelab_agent.core.spool import Spool
from homelab_agent.core.state import State
from tests.shipping import shipping

SCHEMAS = sorted(Path(homelab_agent.__file__).parent.glob("*/schema/state.sql"))


@asynccontextmanager
async def foundation(directory: Path, url: str) -> AsyncIterator[Foundation]:
    clock = SystemClock()
    state = await State.open(directory, SCHEMAS, clock=clock)
    spool = Spool(state, clock, host="here", max_bytes=2**24, max_age=86400)
    jobs = Jobs(state, spool, clock, host="here", timezone=UTC)
    try:
        async with shipping(url, directory, spool, clock) as database:
            health, registry = Health(clock), CollectorRegistry()
            yield Foundation("here", directory, clock, state, spool, health, jobs, database, registry)
    finally:
        await spool.close()
        await state.close()
