"""The capability `reading`: its sources, and the jobs that sync, fill up and verify them."""

from __future__ import annotations

from functools import partial

from homelab_agent.core.capability import Capability
from homelab_agent.core.errors import AgentError
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Check, Finding
from homelab_agent.core.jobs import Job, Outcome, Run
from homelab_agent.reading import kinds, statements
from homelab_agent.reading.order import Order
from homelab_agent.reading.routes import JOB, VERIFY_JOB, Api
from homelab_agent.reading.settings import ReadingSettings, ReadingSource
from homelab_agent.reading.sync import Sync, together
from homelab_agent.reading.verify import Verify

_CHECK_SECONDS = 600.0
_USES = frozenset({"reading"})


def build(settings: ReadingSettings, base: Foundation) -> Capability:
    """Return what the capability contributes."""
    return Service(settings, base).capability()


class Service:
    """Holds the capability's parts together."""

    def __init__(self, settings: ReadingSettings, base: Foundation) -> None:
        self._settings = settings
        self._base = base
        self._sources = {one.name: kinds.make(one, settings, base.secrets, base.clock) for one in settings.source}
        self._syncs = {one.name: self._sync(one) for one in settings.source}
        self._verify = Verify(settings.source, self._sources, base.database)

    def capability(self) -> Capability:
        """Return what all this contributes."""
        settings = self._settings
        sync = Job(
            JOB,
            self.sync,
            settings.deadline,
            schedule=settings.schedule,
            spread=settings.spread,
            catch_up=True,
            uses=_USES,
            description="Take what is to be taken from every reading source.",
        )
        verify = Job(
            VERIFY_JOB,
            self._verify.run,
            settings.deadline,
            uses=_USES,
            has_check=False,
            description="Hold what was taken against its sources once more.",
        )
        return Capability(
            name="reading",
            jobs=[sync, verify],
            routes=Api(self._sources, self._settings.source, self._base.database, self._base.jobs).routes(),
            checks=[Check(f"reading.{name}", partial(self._probe, name), every=_CHECK_SECONDS) for name in self._syncs],
            summary=self._summary,
        )

    async def sync(self, run: Run) -> Outcome:
        """Sync one source after the other, or the one that is asked for."""
        order = Order.of_options(run.options)
        ended = []
        for name, sync in self._syncs.items():
            if order.source in {"", name}:
                ended.append(await sync.run(run, order))
                run.say(str(ended[-1]))
                await self._base.health.probe(f"reading.{name}")
            if run.cancelled.is_set():
                break
        wanted = [name for name in self._syncs if order.source in {"", name}]
        status, said, repair = together(ended, left_out=wanted[len(ended) :])
        return Outcome(ok=status == "ok", detail=said, repair=repair)

    def _sync(self, source: ReadingSource) -> Sync:
        base, patience = self._base, self._settings.patience
        return Sync(self._sources[source.name], source, base.database, base.clock, host=base.host, patience=patience)

    def _summary(self) -> str:
        last = self._base.jobs.last(JOB)
        if last is None or last.ended_at is None:
            return f"{len(self._sources)} sources, not synced yet"
        return f"{last.state}: {last.detail}"

    async def _probe(self, name: str) -> Finding:
        """Say how the last run ended at a source, and what waits there for a decision."""
        try:
            runs = {row["origin"]: row for row in await self._base.database.fetch(statements.LAST_RUNS)}
            waiting = {row["origin"]: row["count"] for row in await self._base.database.fetch(statements.WAITING)}
        except AgentError:
            return Finding.degraded("not known while PostgreSQL is away", "homelab-agent doctor database")
        if name not in runs:
            return Finding.ok("has not run yet")
        last = runs[name]
        said = f"{last['status']} {last['started_at']:%Y-%m-%d %H:%M} UTC on {last['host']}"
        said += f": {last['error']}" if last["error"] else ""
        if count := waiting.get(name, 0):
            return Finding.degraded(f"{said}; {count} documents are rejected", "homelab-agent reading rejected list")
        if last["status"] in {"failed", "partial", "interrupted"}:
            return Finding.degraded(said, "homelab-agent reading sync")
        return Finding.ok(said)
