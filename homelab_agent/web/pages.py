"""The pages as answers: the templates are read in a thread, and only when the first browser asks."""

from __future__ import annotations

import asyncio

from homelab_agent.core.http import Response
from homelab_agent.web.overview import Overview
from homelab_agent.web.page import assets, render
from homelab_agent.web.problem import Problem


class Pages:
    """Draws every page of this host's agent."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._prepared: asyncio.Task[None] | None = None

    async def prepare(self) -> None:
        """Have everything read that the pages need; the first call waits for it, the later ones do not."""
        if self._prepared is None:
            self._prepared = asyncio.ensure_future(asyncio.to_thread(render.prepare))
        await asyncio.shield(self._prepared)

    async def status(self, overview: Overview) -> Response:
        """Return the status page."""
        await self.prepare()
        caller = overview.caller
        logged_in = caller is not None and caller.login == "cookie"
        return self._page(render.render(overview, logout="/logout" if logged_in else ""))

    async def fragment(self, overview: Overview) -> str:
        """Return what of the status page changes."""
        await self.prepare()
        return render.fragment(overview)

    async def confirm(self, link: str, *, days: int) -> Response:
        """Return the page that a one-time link leads to."""
        await self.prepare()
        return self._page(render.confirm_page(self._host, action="/login", token=link, days=days))

    async def login(self) -> Response:
        """Return the page that says how to log in."""
        await self.prepare()
        return self._page(render.login_page(self._host))

    async def problem(self, trouble: Problem, request_id: str) -> Response:
        """Return the page of a problem; of a missing log-in, the one that says how to log in."""
        await self.prepare()
        if trouble.status == 401:
            said = "" if trouble.kind == "unauthorized" else trouble.title
            body = render.login_page(self._host, problem=said)
        else:
            body = render.error_page(
                self._host,
                status=trouble.status,
                title=trouble.title,
                detail=trouble.detail,
                repair=trouble.repair,
                request_id=request_id,
            )
        return self._page(body, trouble.status)

    async def asset(self, name: str, version: str) -> Response | None:
        """Return one of the pages' files, None if there is none of that name."""
        await self.prepare()
        found = assets.find(name)
        if found is None:
            return None
        return Response(found.body, content_type=found.content_type, headers=found.headers(version))

    def _page(self, body: bytes, status: int = 200) -> Response:
        return Response(body, status, render.CONTENT_TYPE, render.HEADERS)
