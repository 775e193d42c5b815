"""Overviews for the tests of the page: an ordinary server, whose parts a test replaces."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from homelab_agent.core.capability import Chart, Listing, Mark, Series
from homelab_agent.core.health import State
from homelab_agent.core.jobs.run import Progress, RunRecord, RunState
from homelab_agent.web.overview import Line, Need, Overview, Upcoming

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NOW = datetime(2026, 11, 24, 14, 23, 10, tzinfo=UTC)
STEP = timedelta(seconds=10)

DATABASE = Need(
    check="database",
    state=State.FAILED,
    detail="PostgreSQL does not answer (connection refused).",
    repair="sudo systemctl start postgresql",
    since=NOW - timedelta(minutes=40),
)
FUNNEL = Need(
    check="gate.funnel",
    state=State.DEGRADED,
    detail="The tailnet's policy does not let this node use Funnel.",
    repair="Add port 8443 to the node's attribute; see `homelab-agent doctor gate`.",
    since=NOW - timedelta(days=1, hours=2),
)


TOLD = Listing(
    "Told",
    (
        Mark("muted by me until", "degraded", NOW + timedelta(hours=2), "moving the house"),
        Mark("phone: database", "ok", NOW - timedelta(minutes=38), "it answers 200 OK"),
        Mark("test of phone", "failed", NOW - timedelta(days=1), "Connection refused"),
    ),
)


def points(
    values: Callable[[int], float | None], count: int = 360, *, end: datetime = NOW
) -> list[tuple[datetime, float | None]]:
    """Return `count` values, one each 10 s, the last at `end`."""
    return [(end - STEP * (count - 1 - number), values(number)) for number in range(count)]


def charts(count: int = 360) -> tuple[Chart, ...]:
    """Return the four charts that `metrics` gives, with `count` values in each series."""

    def wave(low: float, high: float, period: int) -> list[tuple[datetime, float | None]]:
        return points(lambda n: low + (high - low) * (1 + math.sin(2 * math.pi * n / period)) / 2, count)

    return (
        Chart("CPU", "percent", [Series("used", wave(3, 71, 90))], "23 %", 100.0),
        Chart("Memory", "bytes", [Series("used", wave(3.1e9, 3.4e9, 200))], "3.4 GiB", 8.2e9),
        Chart(
            "Disk",
            "bytes_per_second",
            [Series("read", wave(0, 2.4e7, 120)), Series("written", wave(1e5, 9e6, 50))],
            "read 310 KiB/s, written 1.1 MiB/s",
        ),
        Chart(
            "Network",
            "bytes_per_second",
            [Series("in", wave(1e4, 1e6, 70)), Series("out", wave(0, 3e5, 33))],
            "in 140 KiB/s, out 32 KiB/s",
        ),
    )


def run(job: str, state: RunState, ago: timedelta, *, took: timedelta | None = None, detail: str = "") -> RunRecord:
    """Return a run that was asked for and, unless it waits, begun `ago`."""
    begun = NOW - ago
    return RunRecord(
        id=f"0193-{job}",
        job=job,
        trigger="schedule",
        state=state,
        detail=detail,
        repair="homelab-agent doctor" if state == "failed" else "",
        requested_at=begun,
        started_at=None if state == "waiting" else begun,
        ended_at=None if took is None else begun + took,
        progress=Progress(2.1e9, 8e9, "bytes", "photos") if state == "running" else None,
        waits_for="backup.nightly" if state == "waiting" else "",
    )


def runs() -> tuple[RunRecord, ...]:
    """Return one run of every state."""
    minute = timedelta(minutes=1)
    return (
        run("backup.nightly", "running", 3 * minute, detail="4 of 7 sets"),
        run("gitops.verify", "waiting", minute),
        run("gitops.sync", "ok", 15 * minute, took=timedelta(seconds=3.2), detail="moved to 4f2c9d1"),
        run("reading.sync", "failed", 66 * minute, took=minute / 5, detail="MongoDB does not answer"),
        run("backup.drill", "interrupted", 3000 * minute, took=2 * minute),
        run("backup.drill", "cancelled", 4000 * minute, took=minute),
        run("backup.drill", "timed_out", 5000 * minute, took=60 * minute),
    )


def overview(
    *,
    host: str = "atlas",
    needs: Sequence[Need] = (),
    expected: Sequence[Need] = (),
    capabilities: Sequence[Line] | None = None,
    runs: Sequence[RunRecord] = (),
    upcoming: Sequence[Upcoming] = (),
    charts: Sequence[Chart] = (),
    listings: Sequence[Listing] = (),
) -> Overview:
    """Return an overview whose state is that of the first need."""
    usual = (
        Line("metrics", State.OK, "24 families every 10 s"),
        Line("gate", State.DISABLED, "off: `homelab-agent config set gate.enabled true`"),
        Line("sensors", State.NOT_AVAILABLE, "this host has none"),
    )
    return Overview(
        host=host,
        version="0.1.0",
        now=NOW,
        started_at=NOW - timedelta(days=12, hours=5),
        state=needs[0].state if needs else State.OK,
        needs=tuple(needs),
        expected=tuple(expected),
        capabilities=tuple(usual if capabilities is None else capabilities),
        runs=tuple(runs),
        upcoming=tuple(upcoming),
        charts=tuple(charts),
        listings=tuple(listings),
    )


def busy() -> Overview:
    """Return an overview in which everything is used: needs, an announced outage, runs, charts."""
    loki = Need("loki", State.FAILED, "paused for backup until 14:40", "", NOW)
    return overview(
        needs=(DATABASE, FUNNEL),
        expected=(loki,),
        runs=runs(),
        upcoming=(Upcoming("reading.sync", NOW + timedelta(hours=2)),),
        charts=charts(),
        listings=(TOLD,),
    )
