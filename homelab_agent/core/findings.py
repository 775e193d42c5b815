"""Each change of health is a fact: a row of table `finding`, which says what was wrong when, and what mends it."""

from __future__ import annotations

from datetime import datetime

from homelab_agent.core.clock import Clock
from homelab_agent.core.health import Change, Health, Standing
from homelab_agent.core.spool import Row, Scalar, Spool

KEY = ("host", "check_name", "at")


async def run(health: Health, spool: Spool, clock: Clock, host: str) -> None:
    """Put rows until cancelled: for each check that was answered already, then for each change of a state."""
    started_at = clock.read().wall
    with health.changes.subscribe() as changes:
        await spool.put([_row(one, host, started_at, started_at) for one in health.answered()])
        while True:
            change = await changes.get()
            if is_news(change):
                await spool.put([_row(change.after, host, started_at, clock.read().wall)])


def is_news(change: Change) -> bool:
    """Return whether more has changed than the words."""
    before, after = change.before, change.after
    return before is None or (before.finding.state, before.expected) != (after.finding.state, after.expected)


def _row(standing: Standing, host: str, started_at: datetime, at: datetime) -> Row:
    finding = standing.finding
    values: dict[str, Scalar] = {
        "host": host,
        "check_name": standing.check,
        "at": at,
        "started_at": started_at,
        "state": finding.state.value,
        "expected": standing.expected,
        "detail": finding.detail,
        "repair": finding.repair,
    }
    return Row("finding", KEY, values, at)
