"""How checks stand is a fact: a row of table `finding` for each change says what was wrong when, and what mends it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime

from homelab_agent.core.clock import Clock
from homelab_agent.core.health import Health, Standing, State
from homelab_agent.core.spool import Row, Scalar, Spool

KEY = ("host", "check_name", "at")
LOOK_SECONDS = 30.0
"""Nobody tells that an announced outage is over while the check stays as it is: the picture is looked at this often."""


async def run(health: Health, spool: Spool, clock: Clock, host: str, *, every: float = LOOK_SECONDS) -> None:
    """Put a row for each check that was answered, and for each change of its state or of what was announced."""
    started_at = clock.read().wall
    told: dict[str, tuple[State, str]] = {}

    async def tell(standing: Standing) -> None:
        now = (standing.finding.state, standing.expected)
        if told.get(standing.check) != now:  # other words alone are no news
            await spool.put([_row(standing, host, started_at, clock.read().wall)])
            told[standing.check] = now

    with health.changes.subscribe() as changes:
        while True:
            while not changes.empty():
                await tell(changes.get_nowait().after)
            for standing in health.answered():
                await tell(standing)
            # Not wait_for: before Python 3.12 it loses a cancellation that comes together with a change.
            with suppress(TimeoutError):
                async with asyncio.timeout(every):
                    change = await changes.get()
                await tell(change.after)


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
