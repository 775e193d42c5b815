"""What one capability contributes to the agent, as data.

Its rooms are found by path: `commands.py` (command line), `schema/` (PostgreSQL migrations, `state.sql` for SQLite).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from homelab_agent.core.health import Check
from homelab_agent.core.http import Route
from homelab_agent.core.jobs import Job


@dataclass(frozen=True, slots=True)
class Task:
    """Something that runs as long as the agent does; the supervisor starts it again when it ends or fails.

    `run` is called anew for each start and is cancelled to stop; what it must finish (a last flush) it does in
    `finally`, within the supervisor's deadline. A `critical` task that cannot be kept running ends the process.
    """

    name: str
    run: Callable[[], Awaitable[None]]
    critical: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart: (time, value) in time order; None is a gap, drawn as one."""

    label: str
    points: Sequence[tuple[datetime, float | None]]


@dataclass(frozen=True, slots=True)
class Chart:
    """A small chart on the status page; `unit` is one of "percent", "bytes", "bytes_per_second", "celsius".

    `now` is the present value in words ("23 %"), which a screen reader gets in place of the drawing.
    """

    title: str
    unit: str
    series: Sequence[Series]
    now: str
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """One line of a listing: what, when, how it went ("ok", "running", "degraded", "failed"), and more in words."""

    text: str
    state: str
    at: datetime | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """A section of a capability's own on the status page: a few lines, the newest first."""

    title: str
    marks: Sequence[Mark]


@dataclass(frozen=True, slots=True)
class Capability:
    """One capability, built by its `service.build(settings, base)`.

    Tasks start in order and stop in reverse. `summary` is the capability's one line on the status page and in
    `homelab-agent status`; `exposition` its part of `GET /metrics`, in Prometheus' text format, from what is already
    known; `reload` takes the section's new settings, of which only keys marked `reload` differ.
    """

    name: str
    tasks: Sequence[Task] = ()
    jobs: Sequence[Job] = ()
    routes: Sequence[Route] = ()
    checks: Sequence[Check] = ()
    summary: Callable[[], str] | None = None
    charts: Callable[[], Sequence[Chart]] | None = None
    listings: Callable[[], Sequence[Listing]] | None = None
    exposition: Callable[[], bytes] | None = None
    reload: Callable[[Any], None] | None = None
