"""What the agent answers over HTTP for itself: health, runs, jobs, the overview; the rooms add their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from homelab_agent.core.capability import Capability
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Standing, State
from homelab_agent.core.http import (
    Answer,
    Audience,
    Caller,
    Conflict,
    Events,
    Json,
    NotFound,
    Request,
    Response,
    Route,
    limit,
    started,
)
from homelab_agent.core.jobs import UnknownJob
from homelab_agent.web import live
from homelab_agent.web.overview import Overview, as_json, collect
from homelab_agent.web.pages import Pages

Reload = Callable[[], Awaitable[object]]
_PROBE_SECONDS = 60.0


class Api:
    """The handlers and what they ask; `serving` says whether requests are accepted."""

    def __init__(
        self,
        base: Foundation,
        capabilities: Sequence[Capability],
        pages: Pages,
        *,
        serving: Callable[[], bool],
        reload: Reload | None,
    ) -> None:
        self.base = base
        self.capabilities = capabilities
        self.pages = pages
        self.serving = serving
        self.reload = reload
        self._started_at = base.clock.read().wall
        self._fragment = live.Shared(self._draw)

    def routes(self) -> list[Route]:
        """Return the routes."""
        get, post, local = "GET", "POST", Audience.LOCAL
        routes = [
            Route(get, "/", self.overview),
            Route(get, "/events", self.events, deadline=None),
            Route(get, "/static/{name}", self.static, login=False),
            Route(get, "/api/health", self.health),
            Route(get, "/api/health/live", self.live, login=False),
            Route(get, "/api/health/ready", self.ready),
            Route(post, "/api/health/probe", self.probe, deadline=_PROBE_SECONDS),
            Route(get, "/api/jobs", self.jobs),
            Route(post, "/api/jobs/{name}/run", self.run_job),
            Route(get, "/api/runs", self.runs),
            Route(get, "/api/runs/{id}", self.run),
            Route(get, "/api/runs/{id}/events", self.run_events, deadline=None),
            Route(post, "/api/runs/{id}/cancel", self.cancel_run),
            Route(get, "/metrics", self.metrics),
        ]
        if self.reload is not None:
            routes.append(Route(post, "/api/reload", self.reload_settings, audience=local))
        return routes

    async def overview(self, request: Request) -> Answer:
        """Give the overview: a page to a browser, JSON to a program."""
        overview = await self._collect(request.caller)
        if "text/html" in request.headers.get("Accept", ""):
            return await self.pages.status(overview)
        return Json(as_json(overview), headers={"Vary": "Accept"})

    async def events(self, _request: Request) -> Answer:
        """Give the status page its fragment, again and again."""
        return Events(live.overview(self.base, self._fragment))

    async def static(self, request: Request) -> Answer:
        """Give one of the page's files."""
        name = request.match["name"]
        found = await self.pages.asset(name, request.query.get("v", ""))
        if found is None:
            raise NotFound(what="such file")
        if request.headers.get("If-None-Match") == found.headers.get("ETag"):
            return Response(status=304, content_type=found.content_type, headers=found.headers)
        return found

    async def health(self, _request: Request) -> Answer:
        """Give every finding; 503 when something failed."""
        return self._findings(self.base.health.picture())

    async def probe(self, _request: Request) -> Answer:
        """Ask every check now, then give every finding."""
        await self.base.health.probe_all()
        return Json(self._findings(self.base.health.picture()).data)

    async def live(self, _request: Request) -> Answer:
        """Say alive, and nothing else."""
        return Json({"status": "alive"})

    async def ready(self, _request: Request) -> Answer:
        """Say whether requests are served; 503 while the agent stops."""
        serving = self.serving()
        return Json({"ready": serving}, status=200 if serving else 503)

    async def jobs(self, _request: Request) -> Answer:
        """Give every job, when it runs next, and how it ended last."""
        jobs = self.base.jobs
        upcoming = dict(jobs.next_times())
        listed = [
            {
                "name": job.name,
                "description": job.description,
                "schedule": job.schedule,
                "next": upcoming.get(job.name),
                "last": jobs.last(job.name),
            }
            for job in jobs.all()
        ]
        return Json({"jobs": listed})

    async def run_job(self, request: Request) -> Answer:
        """Start a run of a job."""
        try:
            return started(await self.base.jobs.start(request.match["name"]))
        except UnknownJob as error:
            raise _not_found(error) from None

    async def runs(self, request: Request) -> Answer:
        """Give the newest runs: `job` of one job, at most `limit`."""
        history = await self.base.jobs.history(job=request.query.get("job", ""), limit=limit(request))
        return Json({"runs": history})

    async def run(self, request: Request) -> Answer:
        """Give one run."""
        record = await self.base.jobs.get(request.match["id"])
        if record is None:
            raise NotFound(what="such run")
        return Json(record)

    async def run_events(self, request: Request) -> Answer:
        """Follow one run, what it prints and how it stands; 204 to who has seen its end (a browser stops asking)."""
        watched = await self.base.jobs.watch(request.match["id"])
        if watched is None:
            raise NotFound(what="such run")
        seen = live.Seen.of(request.headers.get("Last-Event-ID", ""))
        return Response(status=204) if seen.is_all_of(watched) else Events(live.run(watched, seen))

    async def cancel_run(self, request: Request) -> Answer:
        """Ask a run to stop."""
        run_id = request.match["id"]
        if not await self.base.jobs.cancel(run_id):
            if await self.base.jobs.get(run_id) is None:
                raise NotFound(what="such run")
            raise Conflict(cause="the run has ended")
        return started(run_id)

    async def metrics(self, _request: Request) -> Answer:
        """Give the last sample in Prometheus' text format; nothing is collected for it."""
        parts = [one.exposition() for one in self.capabilities if one.exposition is not None]
        return Response(b"".join([generate_latest(self.base.registry), *parts]), content_type=CONTENT_TYPE_LATEST)

    async def reload_settings(self, _request: Request) -> Answer:
        """Apply a changed configuration, and say what of it applies."""
        assert self.reload is not None  # noqa: S101 - the route exists only with it
        return Json(await self.reload())

    async def _collect(self, caller: Caller | None = None) -> Overview:
        return await collect(self.base, self.capabilities, started_at=self._started_at, caller=caller)

    async def _draw(self) -> str:
        return await self.pages.fragment(await self._collect())

    def _findings(self, picture: Sequence[Standing]) -> Json:
        state = self.base.health.state()
        data = {"status": state, "findings": [standing.as_fields() for standing in picture]}
        return Json(data, status=503 if state is State.FAILED else 200)


def _not_found(error: UnknownJob) -> NotFound:
    found = NotFound(what=f"job called {error.fields['job']}")
    found.repair = error.repair
    return found
