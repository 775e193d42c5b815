"""The reading sync over HTTP: how it stands, a run, what was rejected."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from homelab_agent.core.foundation import Database
from homelab_agent.core.http import Answer, BadRequest, Json, NotFound, Request, Route, body, limit, started
from homelab_agent.core.jobs import Jobs, as_options
from homelab_agent.reading import statements, verify
from homelab_agent.reading.decided import Decided, Outcome
from homelab_agent.reading.order import Order
from homelab_agent.reading.rename import StillConfigured
from homelab_agent.reading.source import Source

JOB = "reading.sync"
VERIFY_JOB = "reading.verify"
RENAME_JOB = "reading.rename"

Decide: TypeAlias = Callable[[str, Sequence[str]], Awaitable[Sequence[Outcome]]]


class NoSuchSource(NotFound):
    """There is no reading source {name} in the configuration."""

    repair = "homelab-agent reading status"


class NoSuchDocument(NotFound):
    """No document {key} is rejected."""

    repair = "homelab-agent reading rejected list"


class Api:
    """The handlers and what they ask."""

    def __init__(self, sources: Mapping[str, Source], database: Database, jobs: Jobs, *, host: str) -> None:
        self._sources = sources
        self._decided = Decided(sources, database, host=host)
        self._database = database
        self._jobs = jobs

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("GET", "/api/reading", self.status),
            Route("POST", "/api/sync/reading", self.sync),
            Route("POST", "/api/reading/verify", self.verify),
            Route("POST", "/api/reading/rename", self.rename),
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
        order = Order.asked(await body(request))
        self._known(order.source)
        return started(await self._jobs.start(JOB, options=order.options()))

    async def verify(self, request: Request) -> Answer:
        """Start a comparison with the sources; the body may name `window` and `source`."""
        asked = await body(request)
        window, source = asked.get("window", ""), asked.get("source", "")
        if not isinstance(window, str) or not isinstance(source, str):
            raise BadRequest(cause="window and source are texts")
        self._known(source)
        if window:
            verify.days_of(window)
        options = as_options({"window": window, "source": source})
        return started(await self._jobs.start(VERIFY_JOB, options=options))

    async def rename(self, request: Request) -> Answer:
        """Start to give all that is known of the source `old`, which is no more, to `new`."""
        asked = await body(request)
        old, new = asked.get("old"), asked.get("new")
        if not (isinstance(old, str) and isinstance(new, str) and old and new and old != new):
            raise BadRequest(cause="old and new are two names")
        self._known(new)
        if old in self._sources:
            raise StillConfigured(old=old, new=new)
        return started(await self._jobs.start(RENAME_JOB, options=as_options({"old": old, "new": new})))

    async def rejected(self, request: Request) -> Answer:
        """Give what was rejected last, at most `limit`, of all sources or of `source`, which may be one of the past."""
        source = request.query.get("source", "")
        rows = await self._database.fetch(statements.REJECTED, source, limit(request))
        if not rows:
            self._known(source)
        return Json({"rejected": [_told(row) for row in rows]})

    async def show(self, request: Request) -> Answer:
        """Give one document that was rejected, whole: its `key`, and its `source` where several have it."""
        asked = await body(request)
        key, source = str(asked.get("key", "")), str(asked.get("source", ""))
        rows = await self._database.fetch(statements.REJECTED_ONE, key, source)
        if not rows:
            raise NoSuchDocument(key=key)
        return Json(_told(rows[0]))

    async def retry(self, request: Request) -> Answer:
        """Have the next run try again the documents of `keys`, or `all` of them; of one `source` where it is named."""
        return await self._decide(request, self._decided.retry)

    async def drop(self, request: Request) -> Answer:
        """Want documents no more: later runs pass over them, and nobody is asked about them again."""
        return await self._decide(request, self._decided.drop)

    async def _decide(self, request: Request, decide: Decide) -> Answer:
        """Tell what became of each document."""
        chosen = await self._choose(await body(request))
        outcomes = [outcome for name, keys in chosen.items() for outcome in await decide(name, keys)]
        return Json({"done": sum(one.done for one in outcomes), "documents": [asdict(one) for one in outcomes]})

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
        if not found:
            self._known(source)
        for key in wanted or ():
            if key not in found:
                raise NoSuchDocument(key=key)
        return chosen

    def _known(self, source: str) -> None:
        if source and source not in self._sources:
            raise NoSuchSource(name=source, cause=f"there are {', '.join(sorted(self._sources)) or 'none'}")


def _told(row: Any) -> dict[str, object] | None:
    return None if row is None else {key: str(value) if key in _IDS else value for key, value in dict(row).items()}


_IDS = frozenset({"run", "first_run", "last_run"})
