"""What a person asks of the repositories over HTTP: how they stand, what a sync would do, a sync, a rollback."""

from __future__ import annotations

from collections.abc import Mapping

from homelab_agent.core.http import Answer, BadRequest, Json, NotFound, Request, Route, started
from homelab_agent.core.jobs import Jobs
from homelab_agent.gitops.deployment import Deployment
from homelab_agent.gitops.receiver import Receiver
from homelab_agent.gitops.status import Status
from homelab_agent.gitops.sync import Sync
from homelab_agent.gitops.worker import JOB, ROLLBACK_JOB

_PLAN_SLACK_SECONDS = 120.0


class NoSuchRepository(NotFound):
    """There is no repository {name} in the configuration."""

    repair = "homelab-agent gitops status"


class ControlApi:
    """The handlers and what they ask."""

    def __init__(
        self,
        deployments: Mapping[str, Deployment],
        syncs: Mapping[str, Sync],
        status: Status,
        receiver: Receiver,
        jobs: Jobs,
        *,
        sync_timeout: float,
    ) -> None:
        self._deployments = deployments
        self._syncs = syncs
        self._status = status
        self._receiver = receiver
        self._jobs = jobs
        self._sync_timeout = sync_timeout

    def routes(self) -> list[Route]:
        """Return the routes."""
        late = self._sync_timeout + _PLAN_SLACK_SECONDS
        return [
            Route("GET", "/api/gitops", self.repositories),
            Route("GET", "/api/gitops/{repository}/plan", self.plan, deadline=late),
            Route("POST", "/api/gitops/{repository}/sync", self.sync),
            Route("GET", "/api/gitops/{repository}/rollback", self.plan_back, deadline=late),
            Route("POST", "/api/gitops/{repository}/rollback", self.roll_back),
            Route("POST", "/api/gitops/deliveries/{guid}/replay", self.replay),
        ]

    async def repositories(self, _request: Request) -> Answer:
        """Give every repository: what is deployed, and how it stands."""
        told = [self._status.as_fields(name, busy=sync.busy) for name, sync in self._syncs.items()]
        return Json({"repositories": told})

    async def plan(self, request: Request) -> Answer:
        """Give what a sync would do now: verdict, commits, files and actions."""
        return Json(await self._deployments[self._name(request)].preview())

    async def sync(self, request: Request) -> Answer:
        """Start a sync; with `?again=true` also to a commit that was rolled back from before."""
        name = self._name(request)
        match request.query.get("again", "false"):
            case "true":
                await self._deployments[name].forgive()
            case "false":
                pass
            case _:
                raise BadRequest(cause="again is true or false")
        return started(await self._jobs.start(JOB + name))

    async def plan_back(self, request: Request) -> Answer:
        """Give where a rollback would go now: verdict, commit, files and actions."""
        return Json(await self._deployments[self._name(request)].preview_back())

    async def roll_back(self, request: Request) -> Answer:
        """Start a rollback to the last good commit before the present one."""
        return started(await self._jobs.start(ROLLBACK_JOB + self._name(request)))

    async def replay(self, request: Request) -> Answer:
        """Open the next attempt of a delivery, and say how it stands."""
        receipt = await self._receiver.replay(request.match["guid"])
        return Json(
            {
                "delivery": receipt.guid,
                "repository": receipt.repository,
                "attempt": receipt.attempt,
                "status": receipt.status,
                "detail": receipt.detail,
            },
            status=202,
        )

    def _name(self, request: Request) -> str:
        name = request.match["repository"]
        if name not in self._syncs:
            raise NoSuchRepository(name=name[:80])
        return name
