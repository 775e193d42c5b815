"""What every room is built on; opened by `agent.py`, handed to each `service.build(settings, base)`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from homelab_agent.core.clock import Clock
from homelab_agent.core.door import PublicDoor
from homelab_agent.core.health import Health
from homelab_agent.core.jobs import Jobs
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.privilege import Privileged, Unprivileged
from homelab_agent.core.secret import Secrets
from homelab_agent.core.spool import Spool
from homelab_agent.core.state import State


class Database(Protocol):
    """PostgreSQL, as a room asks it; every call raises `NeighbourUnreachable` while it is down."""

    @property
    def round_trip_seconds(self) -> float | None:
        """How long it last took to answer the shortest question; None while it is down."""

    async def wait_until_up(self) -> None:
        """Return when it is reached and its schema is as it should be."""

    async def fetch(self, query: str, *args: object) -> Sequence[Any]:
        """Return the rows of a query; `$1` is the first of `args`."""

    def acquire(self) -> AbstractAsyncContextManager[Any]:
        """Return a context that holds one connection, and so its session."""

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Return a context that holds one connection in one transaction."""


@dataclass(frozen=True, slots=True)
class Foundation:
    """The ground of the house. `host` is this host's name in every row, `directory` holds all of the agent's state.

    `port` is where the web server is reached at 127.0.0.1, None if it listens on other addresses only.
    """

    host: str
    directory: Path
    clock: Clock
    state: State
    spool: Spool
    health: Health
    jobs: Jobs
    database: Database
    registry: CollectorRegistry
    privileged: Privileged = field(default_factory=Unprivileged)
    secrets: Secrets = field(default_factory=lambda: Secrets(Redactor()))
    redactor: Redactor = field(default_factory=Redactor)
    door: PublicDoor = field(default_factory=PublicDoor)
    port: int | None = None
