"""The capability `backup`: its jobs, and what is known of the copies."""

from __future__ import annotations

from functools import partial

from homelab_agent.backup.asking import RootHalf
from homelab_agent.backup.catalogue import Catalogue
from homelab_agent.backup.drills import Drills
from homelab_agent.backup.facts import Gauges
from homelab_agent.backup.overview import Overview
from homelab_agent.backup.proven import Proven
from homelab_agent.backup.rounds import Rounds
from homelab_agent.backup.routes import DRILL_JOB, PRUNE_JOB, RUN_JOB, VERIFY_JOB, Api
from homelab_agent.backup.settings import BackupSettings
from homelab_agent.core.capability import Capability, Task
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Check
from homelab_agent.core.jobs import CONTAINERS, Job

_CHECK_SECONDS = 600.0
_ARCHIVES = frozenset({"archives"})


def build(settings: BackupSettings, base: Foundation) -> Capability:
    """Return what the capability contributes."""
    return Service(settings, base).capability()


class Service:
    """Holds the capability's parts together."""

    def __init__(self, settings: BackupSettings, base: Foundation) -> None:
        self._settings = settings
        self._jobs = base.jobs
        catalogue = Catalogue(base.state, base.spool, base.clock, host=base.host)
        self._half = RootHalf(
            base.privileged, settings.repository, base.secrets.find, base.redactor.mask, longest=settings.deadline
        )
        database = base.database.wait_until_up
        self._rounds = Rounds(settings, self._half, catalogue, base.health, base.clock, database=database)
        self._proven = Proven(settings, catalogue, base.clock, base.registry)
        self._drills = Drills(self._half, catalogue, self._proven, base.health, base.clock)
        show = Gauges(base.registry).show
        self._overview = Overview(settings, catalogue, self._rounds, base.clock, self._proven, show=show)

    def jobs(self) -> list[Job]:
        """Return the jobs; one at a time has to do with archives."""
        settings = self._settings
        run = Job(
            RUN_JOB,
            self._rounds.back_up,
            settings.deadline,
            schedule=settings.schedule,
            spread=settings.spread,
            catch_up=True,
            uses=frozenset({CONTAINERS}) | _ARCHIVES,
            description="Back up every set.",
            has_check=False,
        )
        verify = Job(
            VERIFY_JOB,
            self._rounds.verify,
            settings.deadline,
            schedule=settings.verify_schedule,
            catch_up=True,
            uses=_ARCHIVES,
            description="Read every archive whole.",
        )
        drill = Job(
            DRILL_JOB,
            self._drills.drill,
            settings.deadline,
            schedule=settings.drill_schedule,
            catch_up=True,
            uses=_ARCHIVES,
            description="Restore a copy and start its containers, to see whether it lives.",
            has_check=False,
        )
        prune = Job(
            PRUNE_JOB, self._rounds.prune, settings.deadline, uses=_ARCHIVES, description="Delete what is not kept."
        )
        return [run, verify, drill, prune]

    def capability(self) -> Capability:
        """Return what all this contributes."""
        settings = self._settings
        checks = [
            Check(f"backup.{one.name}", partial(self._overview.probe, one.name), every=_CHECK_SECONDS)
            for one in settings.covered
        ]
        return Capability(
            name="backup",
            tasks=[Task("backup.resume", self._rounds.watch)],
            jobs=self.jobs(),
            routes=Api(settings, self._overview, self._half, self._jobs).routes(),
            checks=[
                *checks,
                Check("backup.resumed", self._overview.resumed),
                Check("backup.place", self._overview.place, every=_CHECK_SECONDS),
            ],
            summary=self._summary,
            reload=self._rounds.reload,
        )

    def _summary(self) -> str:
        last = self._jobs.last(RUN_JOB)
        if last is None or last.ended_at is None:
            return f"{len(self._settings.covered)} sets, not backed up yet"
        said = [str(self._overview.facts), f"last run: {last.state}", self._proven.oldest]
        return "; ".join(filter(None, said))
