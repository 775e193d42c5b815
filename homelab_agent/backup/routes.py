"""Backups over HTTP: how they stand, what would be backed up, runs of every kind, what would be deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from homelab_agent.backup.asking import RootHalf
from homelab_agent.backup.facts import Facts
from homelab_agent.backup.settings import BackupSettings
from homelab_agent.core.http import Answer, BadRequest, Json, NotFound, Request, Route, body, started
from homelab_agent.core.jobs import Jobs, as_options

RUN_JOB = "backup.run"
VERIFY_JOB = "backup.verify"
PRUNE_JOB = "backup.prune"
DRILL_JOB = "backup.drill"
_PLAN_SECONDS = 300.0


class NoSuchSet(NotFound):
    """There is no set {name} in the configuration."""

    repair = "homelab-agent backup plan"


class Overview(Protocol):
    """What is known of the copies, for who asks."""

    async def sets(self) -> list[Mapping[str, Any]]:
        """Return how each set stands."""

    async def look(self) -> Facts:
        """Return what is to be known of all at once."""

    async def archives(self, set_name: str) -> list[Mapping[str, Any]]:
        """Return the archives of a set, of all for "", newest first."""

    async def prune_plan(self) -> list[Mapping[str, Any]]:
        """Return what is kept and why, and what would be deleted."""


class Api:
    """The handlers and what they ask."""

    def __init__(self, settings: BackupSettings, overview: Overview, half: RootHalf, jobs: Jobs) -> None:
        self._names = {one.name for one in settings.covered}
        self._overview = overview
        self._half = half
        self._jobs = jobs

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("GET", "/api/backup", self.status),
            Route("GET", "/api/backup/plan", self.plan, deadline=_PLAN_SECONDS),
            Route("GET", "/api/backup/archives", self.archives),
            Route("GET", "/api/backup/prune", self.prune_plan),
            Route("POST", "/api/backup/run", self.run),
            Route("POST", "/api/backup/verify", self.verify),
            Route("POST", "/api/backup/drill", self.drill),
            Route("POST", "/api/backup/prune", self.prune),
        ]

    async def status(self, _: Request) -> Answer:
        """Tell how each set stands: its newest copy, what is proven, what went wrong last."""
        sets = await self._overview.sets()
        return Json({"sets": sets, "facts": (await self._overview.look()).as_fields()})

    async def plan(self, _: Request) -> Answer:
        """Tell what would be backed up now and how, and which volumes are in no set."""
        return Json(await self._half.plan())

    async def archives(self, request: Request) -> Answer:
        """Give the archives, of one `set` where it is named."""
        return Json({"archives": await self._overview.archives(self._known(request.query.get("set", "")))})

    async def prune_plan(self, _: Request) -> Answer:
        """Tell what is kept and why, and what would be deleted; deletes nothing."""
        return Json({"archives": await self._overview.prune_plan()})

    async def run(self, request: Request) -> Answer:
        """Start a run of all sets, or of `set`."""
        return await self._start(RUN_JOB, request, "set")

    async def verify(self, request: Request) -> Answer:
        """Start reading archives whole: all, those of `set`, or `archive`."""
        return await self._start(VERIFY_JOB, request, "set", "archive")

    async def drill(self, request: Request) -> Answer:
        """Start a drill of the copy whose turn it is, of those of `set`, of `archive`, or with `all` of all."""
        return await self._start(DRILL_JOB, request, "set", "archive", "all")

    async def prune(self, request: Request) -> Answer:
        """Start deleting what is not kept; `accept` names a set whose last change of size is meant."""
        return await self._start(PRUNE_JOB, request, "accept")

    async def _start(self, job: str, request: Request, *names: str) -> Answer:
        asked = await body(request)
        if unknown := set(asked) - set(names):
            raise BadRequest(cause=f"{', '.join(sorted(unknown))}: only {', '.join(names)} may be asked for")
        given = {name: asked.get(name, "") for name in names}
        if not all(isinstance(value, str) for value in given.values()):
            raise BadRequest(cause=f"{', '.join(names)}: texts")
        self._known(given.get("set", "") or given.get("accept", ""))
        return started(await self._jobs.start(job, options=as_options(given)))

    def _known(self, name: str) -> str:
        if name and name not in self._names:
            raise NoSuchSet(name=name)
        return name
