"""The agent at one glance: what `GET /` gives a program as JSON and `web/page/` draws for a person."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import homelab_agent
from homelab_agent.core.capability import Capability, Chart, Listing
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Standing, State, pressing
from homelab_agent.core.http import Caller
from homelab_agent.core.jobs import RunRecord

LAST_RUNS = 8


@dataclass(frozen=True, slots=True)
class Need:
    """Something that needs the operator: `detail` is what and why, `repair` a command to copy, or ""."""

    check: str
    state: State
    detail: str
    repair: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Line:
    """One capability: the worst state of its checks, and its summary in one line ("" if it gives none)."""

    name: str
    state: State
    summary: str


@dataclass(frozen=True, slots=True)
class Upcoming:
    """When a job runs next."""

    job: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything the status page shows, at the time `now`.

    `needs` has failures before degradations, each in the order of the checks; `expected` are the outages that
    were announced, which need nobody. `runs` are the last ones, newest first; `upcoming` the nearest first.
    `caller` is who looks: what is drawn alike for everyone (the live fragments) must not depend on it.
    """

    host: str
    version: str
    now: datetime
    started_at: datetime
    state: State
    needs: tuple[Need, ...]
    expected: tuple[Need, ...]
    capabilities: tuple[Line, ...]
    runs: tuple[RunRecord, ...]
    upcoming: tuple[Upcoming, ...]
    charts: tuple[Chart, ...]
    listings: tuple[Listing, ...] = ()
    caller: Caller | None = None


async def collect(
    base: Foundation,
    capabilities: Sequence[Capability],
    *,
    started_at: datetime,
    caller: Caller | None = None,
) -> Overview:
    """Return the present overview; raises `StateUnavailable` when the run history cannot be read."""
    picture = base.health.picture()
    return Overview(
        host=base.host,
        version=homelab_agent.__version__,
        now=base.clock.read().wall,
        started_at=started_at,
        state=base.health.state(),
        needs=needs_of(picture),
        expected=tuple(
            _need(standing, standing.expected) for standing in picture if standing.expected and standing.in_trouble
        ),
        capabilities=tuple(_line(capability, picture) for capability in capabilities),
        runs=tuple(await base.jobs.history(limit=LAST_RUNS)),
        upcoming=tuple(Upcoming(job, at) for job, at in base.jobs.next_times()),
        charts=tuple(chart for capability in capabilities if capability.charts for chart in capability.charts()),
        listings=tuple(
            listing for capability in capabilities if capability.listings for listing in capability.listings()
        ),
        caller=caller,
    )


def as_json(overview: Overview) -> dict[str, object]:
    """Return what a program is told: of the charts only the present values."""
    said = {field.name: getattr(overview, field.name) for field in dataclasses.fields(overview)}
    caller = overview.caller
    said["charts"] = [{"title": one.title, "unit": one.unit, "now": one.now} for one in overview.charts]
    said["caller"] = caller and {"audience": caller.audience.name.lower(), "login": caller.login}
    return said


def needs_of(picture: Sequence[Standing]) -> tuple[Need, ...]:
    """Return what needs the operator, the worst first."""
    return tuple(_need(standing, standing.finding.detail) for standing in pressing(picture))


def _need(standing: Standing, detail: str) -> Need:
    finding = standing.finding
    return Need(standing.check, finding.state, detail, finding.repair, standing.since)


def _line(capability: Capability, picture: Sequence[Standing]) -> Line:
    own = {check.name for check in capability.checks}
    states = {standing.finding.state for standing in picture if standing.check in own and not standing.expected}
    worst = next((state for state in _WORST_FIRST if state in states), State.OK)
    return Line(capability.name, worst, capability.summary() if capability.summary else "")


_WORST_FIRST = (State.FAILED, State.DEGRADED, State.OK, State.DISABLED, State.NOT_AVAILABLE)
