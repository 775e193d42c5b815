"""The capability `reading`: its sources, and the jobs that sync, fill up and verify them."""

from __future__ import annotations

import asyncio
from functools import partial

from homelab_agent.core import journal
from homelab_agent.core.capability import Capability, Task
from homelab_agent.core.errors import AgentError, describe
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Check, Finding
from homelab_agent.core.jobs import Job, Outcome, Run
from homelab_agent.reading import kinds, statements
from homelab_agent.reading.advance import Advance
from homelab_agent.reading.history import History
from homelab_agent.reading.order import Order
from homelab_agent.reading.rename import Rename
from homelab_agent.reading.routes import JOB, RENAME_JOB, VERIFY_JOB, Api
from homelab_agent.reading.settings import ReadingSettings
from homelab_agent.reading.source import Source
from homelab_agent.reading.sync import Ended, Sync, together
from homelab_agent.reading.tally import Tally
from homelab_agent.reading.verify import Verify

_CHECK_SECONDS = 600.0
_USES = frozenset({"reading"})

AT_ONCE = 3
"""So many sources are at work at once: each has a connection to PostgreSQL, and others want one of the pool's, too."""

log = journal.logger("reading")


def build(settings: ReadingSettings, base: Foundation) -> Capability:
    """Return what the capability contributes."""
    return Service(settings, base).capability()


class Service:
    """Holds the capability's parts together."""

    def __init__(self, settings: ReadingSettings, base: Foundation) -> None:
        self._settings = settings
        self._base = base
        self._sources = {one.name: kinds.make(one, settings, base.secrets, base.clock) for one in settings.source}
        self._history = History(base.database, base.clock, base.jobs.get, host=base.host)
        self._syncs = {name: self._sync(source) for name, source in self._sources.items()}
        self._verify = Verify(self._sources, base.database, host=base.host)
        self._rename = Rename(base.database, host=base.host)

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
            ends_before_next=True,
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
        rename = Job(
            RENAME_JOB,
            self._rename.run,
            settings.deadline,
            uses=_USES,
            has_check=False,
            description="Have what is known of a source that has another name now go by that.",
        )
        return Capability(
            name="reading",
            tasks=[Task("reading.history", self._history.run)],
            jobs=[sync, verify, rename],
            routes=Api(self._sources, self._base.database, self._base.jobs, host=self._base.host).routes(),
            checks=[Check(f"reading.{name}", partial(self._probe, name), every=_CHECK_SECONDS) for name in self._syncs],
            summary=self._summary,
        )

    async def sync(self, run: Run) -> Outcome:
        """Sync all sources, some at once, or the one that is asked for; none waits for or fails with another."""
        order = Order.of_options(run.options)
        wanted = [name for name in self._syncs if order.source in {"", name}]
        places, advance = asyncio.Semaphore(AT_ONCE), Advance(run, self._base.clock)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._sync_one(name, run, order, advance, places)) for name in wanted]
        ended = [one for task in tasks if (one := task.result()) is not None]
        left_out = [name for name, task in zip(wanted, tasks, strict=True) if task.result() is None]
        status, said, repair = together(ended, left_out=left_out)
        return Outcome(ok=status == "ok", detail=said, repair=repair)

    async def _sync_one(
        self, name: str, run: Run, order: Order, advance: Advance, places: asyncio.Semaphore
    ) -> Ended | None:
        """Sync one source; None when the run was asked to stop before it was its turn."""
        async with places:
            if run.cancelled.is_set():
                return None
            try:
                ended = await self._syncs[name].run(run, order, advance)
            except Exception as error:  # nobody expected it; the other sources go on
                log.exception("reading.raised", source=name)
                ended = Ended(name, "failed", Tally(), describe(error), "homelab-agent doctor reading")
            run.say(str(ended))
            await self._base.health.probe(f"reading.{name}")
            return ended

    def _sync(self, source: Source) -> Sync:
        base, patience = self._base, self._settings.patience
        return Sync(source, base.database, base.clock, self._history, host=base.host, patience=patience)

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
