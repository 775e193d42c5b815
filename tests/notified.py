"""The room `notify` on a state, a spool and a health of its own; what it sends goes over real sockets."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path
from typing import Any, cast

from prometheus_client import CollectorRegistry

import homelab_agent
from homelab_agent.core.capability import Capability
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Check, Finding, Health
from homelab_agent.core.jobs import Job, Jobs, Outcome, Run
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.core.spool import Spool
from homelab_agent.core.state import State
from homelab_agent.notify import service
from homelab_agent.notify.settings import NotifySettings
from tests.database import NoDatabase

SCHEMAS = sorted(Path(homelab_agent.__file__).parent.glob("*/schema/state.sql"))
AT_ONCE: dict[str, Any] = {"grace": 0, "grace_degraded": 0, "group": 0}


class Room:
    """The capability with what it stands on."""

    def __init__(self, base: Foundation, capability: Capability) -> None:
        self.base = base
        self.capability = capability

    def report(self, check: str, finding: Finding) -> None:
        """Have a check stand so."""
        self.base.health.report(check, finding)

    def finding(self, check: str) -> Finding:
        """Return how a check stands."""
        return next(one.finding for one in self.base.health.picture() if one.check == check)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask state.db."""
        connection = sqlite3.connect(self.base.directory / "state.db")
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def reload(self, section: dict[str, Any]) -> None:
        """Have the room take another section, as a reload of the configuration does."""
        assert self.capability.reload is not None
        self.capability.reload(NotifySettings.model_validate({**AT_ONCE, **section}))

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call a route's handler, as the web server does."""
        route = next(one for one in self.capability.routes if (one.method, one.path) == (method, path))
        answer = await route.handler(cast("Any", _Request(body)))
        return cast("Any", answer).data


class _Request:
    def __init__(self, body: dict[str, Any] | None) -> None:
        self._body = body
        self.declared = 1 if body is not None else None
        self.headers: dict[str, str] = {}
        self.query: dict[str, str] = {}
        self.caller = cast("Any", type("Caller", (), {"name": "", "login": "socket", "address": ""})())

    async def json(self) -> Any:
        return self._body


def secret(directory: Path, name: str, value: str) -> str:
    """Return the reference to a file with this value."""
    path = directory / f"secret-{name}"
    path.touch(0o600)
    path.write_text(value)
    return f"file:{path}"


@asynccontextmanager
async def room(
    directory: Path,
    section: dict[str, Any],
    *,
    checks: tuple[str, ...] = ("web", "database"),
    jobs: tuple[Job, ...] = (),
) -> AsyncIterator[Room]:
    """Run the room with this section, beside these checks and jobs."""
    clock, redactor = SystemClock(), Redactor()
    state = await State.open(directory, SCHEMAS, clock=clock)
    spool = Spool(state, clock, host="nas", max_bytes=2**24, max_age=86400)
    runs = Jobs(state, spool, clock, host="nas", timezone=UTC)
    base = Foundation(
        host="nas",
        directory=directory,
        clock=clock,
        state=state,
        spool=spool,
        health=Health(clock),
        jobs=runs,
        database=NoDatabase(),
        registry=CollectorRegistry(),
        secrets=Secrets(redactor, clock),
        redactor=redactor,
        port=8085,
    )
    capability = service.build(NotifySettings.model_validate({**AT_ONCE, **section}), base)
    runs.add(jobs)
    base.health.add([*(Check(name) for name in checks), *state.checks(), *capability.checks])
    tasks = [asyncio.ensure_future(task.run()) for task in capability.tasks]
    tasks.append(asyncio.ensure_future(runs.run()))
    try:
        yield Room(base, capability)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await spool.close()
        await state.close()
        for one in ended:
            if isinstance(one, BaseException) and not isinstance(one, asyncio.CancelledError):
                raise one  # what a task raised is why the test failed


async def nothing(_run: Run) -> Outcome:
    """Do nothing, well."""
    return Outcome(ok=True, detail="nothing to do")
