"""What receives webhooks, put together on a foundation as the capability's service does, and requests for it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any, cast

from multidict import CIMultiDict
from prometheus_client import CollectorRegistry

from homelab_agent.core.capability import Capability
from homelab_agent.core.clock import Clock
from homelab_agent.core.foundation import Database, Foundation
from homelab_agent.core.health import Health
from homelab_agent.core.http import Audience, Caller
from homelab_agent.core.jobs import Jobs
from homelab_agent.core.spool import Spool
from homelab_agent.core.state import State
from homelab_agent.gitops.identity import Identities
from homelab_agent.gitops.inbox import Inbox
from homelab_agent.gitops.keyring import Keyring
from homelab_agent.gitops.receiver import Receiver
from homelab_agent.gitops.routes import Deliveries
from homelab_agent.gitops.settings import GitopsSettings
from homelab_agent.gitops.verifier import Verifier
from tests import payloads
from tests.website import SCHEMAS

SOURCE = "198.51.100.7"


@dataclass(slots=True)
class Hooks:
    """The parts; `woken` are the repositories that something was to be done for, in order."""

    keyring: Keyring
    verifier: Verifier
    inbox: Inbox
    receiver: Receiver
    woken: list[str]

    def capability(self) -> Capability:
        """Return it as the web room is given it."""
        return Capability(name="gitops", routes=Deliveries(self.receiver, self.inbox).routes())


def settings(*repositories: dict[str, Any], **more: Any) -> GitopsSettings:
    """Return the section; without repositories, with the one that `payloads` tells of."""
    return GitopsSettings(repository=[*(repositories or [repository()])], **more)


def repository(name: str = "homelab", *, secrets: Sequence[dict[str, Any]] = (), **more: Any) -> dict[str, Any]:
    """Return a repository's section."""
    known = {"name": name, "full_name": payloads.FULL_NAME, "id": payloads.NUMBER, "directory": "/srv/homelab"}
    return {**known, "secret": list(secrets), **more}


def secret_in(directory: Path, value: str = payloads.SECRET, *, name: str = "main", **more: Any) -> dict[str, Any]:
    """Return a secret's section, with its value in a file."""
    file = directory / f"secret-{name}"
    file.write_text(value)
    file.chmod(0o600)
    return {"name": name, "secret": f"file:{file}", **more}


def assemble(base: Foundation, section: GitopsSettings, wake: Callable[[str], None] | None = None) -> Hooks:
    """Put the parts together."""
    woken: list[str] = []
    keyring = Keyring(section.repository, base.secrets.find, base.clock)
    verifier = Verifier(keyring, base.clock, networks=section.networks, refusals_per_minute=section.failures_per_minute)
    inbox = Inbox(base.state, base.spool, base.clock, host=base.host, max_bytes=section.inbox_max_bytes)
    receiver = Receiver(
        section.repository,
        verifier,
        inbox,
        Identities(section.repository, base.state, base.clock),
        base.clock,
        wake=wake or woken.append,
        registry=base.registry,
    )
    return Hooks(keyring, verifier, inbox, receiver, woken)


@asynccontextmanager
async def foundation(directory: Path, clock: Clock) -> AsyncIterator[Foundation]:
    """Give what the parts stand on; no web server and no database."""
    state = await State.open(directory, SCHEMAS, clock=clock)
    spool = Spool(state, clock, host="attic", max_bytes=1 << 24, max_age=3600.0)
    yield Foundation(
        host="attic",
        directory=directory,
        clock=clock,
        state=state,
        spool=spool,
        health=Health(clock),
        jobs=Jobs(state, spool, clock, host="attic", timezone=UTC),
        database=cast("Database", None),
        registry=CollectorRegistry(),
    )
    await spool.close()
    await state.close()


@dataclass(slots=True)
class Sent:
    """Implements `core.http.Request`: a delivery as the web room hands it on, its body in pieces of `piece` bytes."""

    headers: Mapping[str, str]
    body: bytes
    caller: Caller = Caller(Audience.PUBLIC, SOURCE)  # noqa: RUF009 - it is frozen
    piece: int = 64 * 1024
    declared: int | None = None
    method: str = "POST"
    path: str = "/api/webhook/gitops"
    match: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    id: str = "request"
    read: int = 0

    def __post_init__(self) -> None:
        self.headers = CIMultiDict(self.headers)
        self.declared = len(self.body) if self.declared is None else self.declared

    async def json(self) -> Any:
        """Return the body."""
        return json.loads(self.body)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield it."""
        for begin in range(0, len(self.body), self.piece):
            self.read += len(self.body[begin : begin + self.piece])
            yield self.body[begin : begin + self.piece]


def sent(event: str, payload: payloads.Payload, *, secret: str = payloads.SECRET, guid: str = "", **more: Any) -> Sent:
    """Return a delivery that is signed well."""
    body = payloads.encode(payload)
    return Sent(payloads.headers(event, body, secret=secret, guid=guid), body, **more)
