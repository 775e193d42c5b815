"""What `database` contributes: the way to PostgreSQL, the shipper, partitions, rollups, and their checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from homelab_agent.core.capability import Capability, Task
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Check, Finding
from homelab_agent.core.jobs import Job, Outcome, Run
from homelab_agent.database import partitions
from homelab_agent.database.database import Database
from homelab_agent.database.moving.moving import Moving
from homelab_agent.database.moving.order import JOB, Configuration
from homelab_agent.database.rollups.keep import Keep
from homelab_agent.database.rollups.upkeep import Rollups
from homelab_agent.database.routes import Api
from homelab_agent.database.settings import DatabaseSettings
from homelab_agent.database.shipper import Shipper

LATE_SECONDS = 120.0
"""How old a waiting row may be, beyond what `ship_every` explains, before a person should know."""


def build(settings: DatabaseSettings, base: Foundation, configuration: Configuration) -> Capability:
    """Build the capability on the foundation's database, a `Database`; `configuration` says where that is."""
    database = base.database
    if not isinstance(database, Database):
        message = "the foundation's database is not the one of this room"
        raise TypeError(message)
    shipper = Shipper(database, base.spool, base.clock, settings.ship_every)
    rollups = Rollups(database, base.clock, Keep.of(settings))
    moving = Moving(database, shipper, rollups, base, settings, configuration)
    service = _Service(database, shipper, rollups, base)
    database.on_change = base.health.report
    return Capability(
        name="database",
        tasks=[
            Task("database", database.run),
            Task("database.shipper", shipper.run),
            Task("database.rollups", rollups.start),
        ],
        jobs=_jobs(service, rollups, moving),
        routes=Api(moving, base.jobs).routes(),
        checks=[
            Check("database.connection", service.probe_connection, deadline=15.0),
            Check("database.schema", service.probe_schema),
            Check("database.shipping", service.probe_shipping),
        ],
        summary=service.summary,
        reload=service.reload,
    )


def _jobs(service: _Service, rollups: Rollups, moving: Moving) -> list[Job]:
    return [
        Job(
            "database.partitions",
            service.upkeep,
            deadline=300.0,
            schedule="25 3 * * *",
            catch_up=True,
            description="Make the next months' partitions, drop old ones; bound the embedded server's files.",
        ),
        Job(
            "database.rollups",
            rollups.roll,
            deadline=3600.0,
            schedule="7 * * * *",
            catch_up=True,
            description="Bring up to date what all samples came to by minute, hour and day.",
        ),
        Job(
            JOB,
            moving.work,
            deadline=7 * 86400.0,
            has_check=False,
            description="Copy all history to another PostgreSQL (homelab-agent db move).",
        ),
    ]


@dataclass(slots=True)
class _Service:
    database: Database
    shipper: Shipper
    rollups: Rollups
    base: Foundation

    async def upkeep(self, _run: Run) -> Outcome:
        """Do what is due once a day."""
        await self.database.tidy()
        async with self.database.acquire() as connection:
            tables = await partitions.make_ahead(connection, self.base.clock.read().wall)
        ready = f"{tables} tables have partitions for {partitions.AHEAD} months ahead"
        return Outcome(ok=True, detail=f"{ready}; {await self.rollups.expire()}")

    async def probe_connection(self) -> Finding:
        """Ask PostgreSQL whether it still answers; how it stands is known either way."""
        if self.database.is_up:
            await self.database.ping()
        if (stale := self.database.stale()) is not None:
            return Finding.degraded(f"{stale} {self.database.connection.detail}", stale.repair)
        return self.database.connection

    async def probe_schema(self) -> Finding:
        """Tell what the last migration found."""
        return self.database.schema

    async def probe_shipping(self) -> Finding:
        """Tell whether rows reach PostgreSQL in time."""
        status = self.base.spool.status()
        waiting = status.rows_memory + status.rows_disk
        if status.waited is None or not waiting:
            return Finding.ok(f"rows shipped: {self.shipper.shipped}, none wait")
        detail = f"{waiting} rows wait, the oldest for {status.waited:.0f} s"
        if status.waited <= self.shipper.ship_every + LATE_SECONDS:
            return Finding.ok(detail)
        cause = self.shipper.trouble or self.database.connection.detail
        return Finding.degraded(
            f"{detail}: {cause}", self.database.connection.repair or "homelab-agent doctor database"
        )

    def summary(self) -> str:
        """Return one line: what PostgreSQL is, and what was shipped."""
        where = str(self.database.edition) if self.database.edition else self.database.connection.detail
        rejected = f", {self.shipper.rejected} rejected" if self.shipper.rejected else ""
        return f"{where}; rows shipped: {self.shipper.shipped}{rejected}"

    def reload(self, settings: Any) -> None:
        """Take a new rhythm of shipping."""
        self.shipper.adopt(settings.ship_every)
