"""The database over HTTP: a move to another one."""

from __future__ import annotations

from homelab_agent.core.http import Answer, Audience, Request, Route, body, started
from homelab_agent.core.jobs import Jobs
from homelab_agent.database.moving.moving import Moving
from homelab_agent.database.moving.order import JOB, Order


class Api:
    """The handlers and what they ask."""

    def __init__(self, moving: Moving, jobs: Jobs) -> None:
        self._moving = moving
        self._jobs = jobs

    def routes(self) -> list[Route]:
        """Return the routes: an address may hold a password, so it comes over the unix socket alone."""
        return [Route("POST", "/api/database/move", self.move, audience=Audience.LOCAL)]

    async def move(self, request: Request) -> Answer:
        """Start a move `to` an address, with a reference to its `password`; only a `plan`, or to the `switch`."""
        options = self._moving.take(Order.asked(await body(request)))
        return started(await self._jobs.start(JOB, options=options))
