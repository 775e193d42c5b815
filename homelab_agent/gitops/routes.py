"""GitOps over HTTP: the webhook, the one route that the public reaches; its deliveries; the repositories."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import get_args

from homelab_agent.core.door import PUBLIC_PATH
from homelab_agent.core.http import (
    Answer,
    Audience,
    BadRequest,
    Json,
    NotFound,
    Request,
    Response,
    Route,
    limit,
    started,
)
from homelab_agent.core.jobs import Jobs, RunRecord
from homelab_agent.gitops.delivery import OPEN, Word
from homelab_agent.gitops.deployment import Deployment
from homelab_agent.gitops.inbox import Inbox
from homelab_agent.gitops.moves import Moves
from homelab_agent.gitops.ping import Pings
from homelab_agent.gitops.receiver import Receiver
from homelab_agent.gitops.status import Status
from homelab_agent.gitops.sync import AGAIN
from homelab_agent.gitops.worker import JOB, ROLLBACK_JOB

BODY_MAX = 25 * 1024 * 1024
"""GitHub sends no larger payload (https://docs.github.com/en/webhooks/webhook-events-and-payloads#payload-cap)."""

_DEADLINE = 20.0
"""For a whole delivery; GitHub itself waits for ten seconds."""

_PLAN_SLACK_SECONDS = 120.0
_STANDINGS = frozenset({"", OPEN, *get_args(Word)})


class NoSuchRepository(NotFound):
    """There is no repository {name} in the configuration."""

    repair = "homelab-agent gitops status"


class NoSuchMove(NotFound):
    """There is no deployment {id}, and no run of that id has made one."""

    repair = "homelab-agent gitops history REPO"


class Deliveries:
    """The webhook, and what became of its deliveries."""

    def __init__(self, receiver: Receiver, inbox: Inbox) -> None:
        self._receiver = receiver
        self._inbox = inbox

    def routes(self) -> list[Route]:
        """Return the routes."""
        public = Audience.PUBLIC
        return [
            Route(
                "POST",
                PUBLIC_PATH,
                self.webhook,
                audience=public,
                login=False,  # the signature is the authority
                body_max=BODY_MAX,
                deadline=_DEADLINE,
            ),
            Route("GET", "/api/gitops/deliveries", self.newest),
            Route("GET", "/api/gitops/deliveries/{guid}", self.one),
            Route("GET", "/api/gitops/deliveries/{guid}/payload", self.payload),
            Route("POST", "/api/gitops/deliveries/{guid}/replay", self.replay),
        ]

    async def webhook(self, request: Request) -> Answer:
        """Take a delivery, and say what becomes of it."""
        receipt = await self._receiver.receive(request)
        return Json(receipt.as_fields(), status=200 if receipt.status == "pong" else 202)

    async def newest(self, request: Request) -> Answer:
        """Give the newest deliveries with their attempts: at most `limit`, of all repositories or of `repository`.

        With `verdict`, or `verdict=open`, only those whose last attempt is so.
        """
        most, verdict = limit(request), request.query.get("verdict", "")
        if verdict not in _STANDINGS:
            raise BadRequest(cause=f"verdict is one of {', '.join(sorted(_STANDINGS - {''}))}")
        return Json({"deliveries": await self._inbox.newest(most, request.query.get("repository", ""), verdict)})

    async def one(self, request: Request) -> Answer:
        """Give one delivery with its attempts and its headers."""
        record = await self._inbox.get(request.match["guid"])
        headers, _ = await self._inbox.content(record.guid)
        return Json({**dataclasses.asdict(record), "headers": headers})

    async def payload(self, request: Request) -> Answer:
        """Give the body of one delivery as it came."""
        _, body = await self._inbox.content(request.match["guid"])
        return Response(body)

    async def replay(self, request: Request) -> Answer:
        """Open the next attempt of a delivery, and say how it stands."""
        return Json((await self._receiver.replay(request.match["guid"])).as_fields(), status=202)


class Repositories:
    """What a person asks of them: how they stand, what was done, what a sync would do, a sync, a rollback, a ping."""

    def __init__(
        self,
        deployments: Mapping[str, Deployment],
        status: Status,
        inbox: Inbox,
        moves: Moves,
        jobs: Jobs,
        pings: Pings,
        *,
        sync_timeout: float,
    ) -> None:
        self._deployments = deployments
        self._status = status
        self._inbox = inbox
        self._moves = moves
        self._jobs = jobs
        self._pings = pings
        self._sync_timeout = sync_timeout

    def routes(self) -> list[Route]:
        """Return the routes."""
        late, local = self._sync_timeout + _PLAN_SLACK_SECONDS, Audience.LOCAL
        return [
            Route("GET", "/api/gitops", self.all),
            Route("GET", "/api/gitops/{repository}/moves", self.history),
            Route("GET", "/api/gitops/{repository}/plan", self.plan, deadline=late),
            Route("POST", "/api/gitops/{repository}/sync", self.sync),
            Route("GET", "/api/gitops/{repository}/rollback", self.plan_back, deadline=late),
            Route("POST", "/api/gitops/{repository}/rollback", self.roll_back),
            Route("POST", "/api/gitops/{repository}/ping", self.ping, audience=local),  # over the agent's own socket
            Route("GET", "/api/gitops/moves/{id}", self.moves),
        ]

    async def all(self, _request: Request) -> Answer:
        """Give every repository: what is deployed, how it stands, what is under way and what waits."""
        waiting, runs = await self._inbox.waiting(), self._jobs.live()
        told = [
            {**self._status.as_fields(name), **_under_way(name, runs), "waiting": waiting.get(name, 0)}
            for name in self._deployments
        ]
        return Json({"repositories": told})

    async def history(self, request: Request) -> Answer:
        """Give a repository's newest deployments, the newest first, at most `limit`."""
        return Json({"moves": await self._moves.newest(self._name(request), limit(request))})

    async def moves(self, request: Request) -> Answer:
        """Give one deployment by its id, or those of a run by the run's, each with its actions and their output."""
        found = await self._moves.found(request.match["id"])
        if not found:
            raise NoSuchMove(id=request.match["id"][:80])
        return Json({"moves": [{**dataclasses.asdict(move), "actions": actions} for move, actions in found]})

    async def plan(self, request: Request) -> Answer:
        """Give what a sync would do now: verdict, commits, files and actions."""
        return Json(await self._deployments[self._name(request)].preview())

    async def sync(self, request: Request) -> Answer:
        """Start a sync; with `?again=true` also to a commit that was rolled back from before."""
        name = self._name(request)
        match request.query.get("again", "false"):
            case "true":
                options = frozenset({AGAIN})
            case "false":
                options = frozenset()
            case _:
                raise BadRequest(cause="again is true or false")
        return started(await self._jobs.start(JOB + name, options=options))

    async def plan_back(self, request: Request) -> Answer:
        """Give where a rollback would go now: verdict, commit, files and actions."""
        return Json(await self._deployments[self._name(request)].preview_back())

    async def roll_back(self, request: Request) -> Answer:
        """Start a rollback to the last good commit before the present one."""
        return started(await self._jobs.start(ROLLBACK_JOB + self._name(request)))

    async def ping(self, request: Request) -> Answer:
        """Give a ping that is signed with one of the repository's secrets, to be sent to the webhook's route."""
        return Json(await self._pings.make(self._deployments[self._name(request)].repository))

    def _name(self, request: Request) -> str:
        name = request.match["repository"]
        if name not in self._deployments:
            raise NoSuchRepository(name=name[:80])
        return name


def _under_way(name: str, runs: Sequence[RunRecord]) -> dict[str, object]:
    """Return what is told of a repository's run: the one that is at work, else one that waits for another's end."""
    its = [run for run in runs if run.job in {JOB + name, ROLLBACK_JOB + name}]
    for run in sorted(its, key=lambda run: run.state != "running"):
        return {"busy": run.state == "running", "run": run.id, "waits_for": run.waits_for}
    return {"busy": False, "run": None, "waits_for": ""}
