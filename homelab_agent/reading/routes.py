"""The reading sync over HTTP: how it stands, a run, what was rejected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from homelab_agent.core.foundation import Database
from homelab_agent.core.http import Answer, BadRequest, Json, NotFound, Request, Route, limit, started
from homelab_agent.core.jobs import Jobs
from homelab_agent.reading import statements, verify
from homelab_agent.reading.order import Order
from homelab_agent.reading.settings import ReadingSource
from homelab_agent.reading.source import Keeper, Source

JOB = "reading.sync"
VERIFY_JOB = "reading.verify"


class NoSuchSource(NotFound):
    """There is no reading source {name} in the configuration."""

    repair = "homelab-agent reading status"


class NoSuchDocument(NotFound):
    """No document {key} is rejected."""

    repair = "homelab-agent reading rejected list"


class Api:
    """The handlers and what they ask."""

    def __init__(
        self, sources: Mapping[str, Source], settings: Sequence[ReadingSource], database: Database, jobs: Jobs
    ) -> None:
        self._sources = sources
        self._marks = {one.name: one.on_reject == "mark" for one in settings}
        self._database = database
        self._jobs = jobs

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("GET", "/api/reading", self.status),
            Route("POST", "/api/sync/reading", self.sync),
            Route("POST", "/api/reading/verify", self.verify),
            Route("GET", "/api/reading/rejected", self.rejected),
            Route("POST", "/api/reading/rejected/show", self.show),
            Route("POST", "/api/reading/rejected/retry", self.retry),
            Route("POST", "/api/reading/rejected/drop", self.drop),
        ]

    async def status(self, _request: Request) -> Answer:
        """Give each source with its last run."""
        runs = {row["origin"]: dict(row) for row in await self._database.fetch(statements.LAST_RUNS)}
        waiting = {row["origin"]: row["count"] for row in await self._database.fetch(statements.WAITING)}
        told = [
            {"source": name, "last": _told(runs.get(name)), "rejected": waiting.get(name, 0)} for name in self._sources
        ]
        return Json({"sources": told})

    async def sync(self, request: Request) -> Answer:
        """Start a run; the body may name `since`, `until`, `source`, `dry_run`."""
        order = Order.asked(await _body(request))
        self._known(order.source)
        return started(await self._jobs.start(JOB, options=order.options()))

    async def verify(self, request: Request) -> Answer:
        """Start a comparison with the sources; the body may name `window` and `source`."""
        asked = await _body(request)
        window, source = asked.get("window", ""), asked.get("source", "")
        if not isinstance(window, str) or not isinstance(source, str):
            raise BadRequest(cause="window and source are texts")
        self._known(source)
        if window:
            verify.days_of(window)
        given = {"window": window, "source": source}
        options = frozenset(f"{key}={value}" for key, value in given.items() if value)
        return started(await self._jobs.start(VERIFY_JOB, options=options))

    async def rejected(self, request: Request) -> Answer:
        """Give what was rejected last, at most `limit`, of all sources or of `source`."""
        source = request.query.get("source", "")
        rows = await self._database.fetch(statements.REJECTED, source, limit(request))
        return Json({"rejected": [_told(row) for row in rows]})

    async def show(self, request: Request) -> Answer:
        """Give one document that was rejected, whole: its `key`, and its `source` where several have it."""
        asked = await _body(request)
        key, source = str(asked.get("key", "")), str(asked.get("source", ""))
        rows = await self._database.fetch(statements.REJECTED_ONE, key, source)
        if not rows:
            raise NoSuchDocument(key=key)
        return Json(_told(rows[0]))

    async def retry(self, request: Request) -> Answer:
        """Have the next run try again the documents of `keys`, or `all` of them; of one `source` where it is named."""
        chosen = await self._choose(await _body(request))
        for name, keys in chosen.items():
            source = self._sources.get(name)
            if source is not None and self._marks[name]:
                async with source.open() as opened:
                    if isinstance(opened, Keeper):
                        await opened.reopen(keys)
            await self._set_state(name, keys, "retry")
        return Json({"retried": sum(map(len, chosen.values()))})

    async def drop(self, request: Request) -> Answer:
        """Want documents no more: later runs pass over them, and nobody is asked about them again."""
        chosen = await self._choose(await _body(request))
        for name, keys in chosen.items():
            await self._set_state(name, keys, "dropped")
        return Json({"dropped": sum(map(len, chosen.values()))})

    async def _choose(self, asked: Mapping[str, Any]) -> dict[str, list[str]]:
        """Return which documents are meant, by source; raises `NoSuchDocument` where one is none."""
        keys, source = asked.get("keys"), str(asked.get("source", ""))
        if asked.get("all") is not True and not (isinstance(keys, list) and keys):
            raise BadRequest(cause='the body names "keys", or "all": true')
        wanted = None if asked.get("all") is True else [str(key) for key in keys or ()]
        chosen: dict[str, list[str]] = {}
        for row in await self._database.fetch(statements.CHOOSE, source, wanted):
            chosen.setdefault(row["origin"], []).append(row["key"])
        found = {key for some in chosen.values() for key in some}
        for key in wanted or ():
            if key not in found:
                raise NoSuchDocument(key=key)
        return chosen

    async def _set_state(self, name: str, keys: Sequence[str], state: str) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(statements.SET_STATE, name, keys, state)

    def _known(self, source: str) -> None:
        if source and source not in self._sources:
            raise NoSuchSource(name=source)


async def _body(request: Request) -> Mapping[str, Any]:
    """Return the body as an object; one that is not there is empty."""
    if not request.declared and "transfer-encoding" not in request.headers:
        return {}
    asked = await request.json()
    if not isinstance(asked, Mapping):
        raise BadRequest(cause="the body is an object")
    return asked


def _told(row: Any) -> dict[str, object] | None:
    return None if row is None else {key: str(value) if key in _IDS else value for key, value in dict(row).items()}


_IDS = frozenset({"run", "first_run", "last_run"})
