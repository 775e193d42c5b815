"""How the spool stands, and what is to be said of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from homelab_agent.core.errors import AgentError
from homelab_agent.core.health import Finding

NEWS = timedelta(days=1)
"""How long thinned and rejected rows are something that the operator should look at."""

WAITING_SECONDS = 600.0
"""Rows that have waited so long do not just pass through."""


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """How much waits; `thinned` counts rows since the start, `rejected` those written down as refused.

    `waited` is for how many seconds by the monotonic clock, which nobody sets: what an earlier run has left waits
    since this start. None: nothing waits. `oldest` is the time that the oldest row bears.
    """

    rows_memory: int
    rows_disk: int
    bytes_disk: int
    oldest: datetime | None
    waited: float | None
    thinned: int
    rejected: int


def judged(
    status: SpoolStatus,
    trouble: AgentError | None,
    *,
    thinned_at: datetime | None,
    rejected_at: datetime | None,
    now: datetime,
) -> Finding:
    """Return what is wrong, the worst first; `trouble` is why the disk takes or gives nothing."""
    waiting = f"{status.rows_memory} rows wait in memory, {status.rows_disk} on disk"
    if trouble is not None:
        return Finding.degraded(f"{waiting}: {trouble}", trouble.repair)
    if thinned_at is not None and now - thinned_at < NEWS:
        detail = f"{status.thinned} rows of samples were thinned out, the last at {thinned_at:%Y-%m-%d %H:%M} UTC"
        return Finding.degraded(f"{detail}; {waiting}", "homelab-agent doctor database")
    if rejected_at is not None and now - rejected_at < NEWS:
        detail = f"PostgreSQL refused {status.rejected} rows, the last at {rejected_at:%Y-%m-%d %H:%M} UTC"
        return Finding.degraded(f"{detail}; {waiting}", "homelab-agent db rejected")
    if status.waited is not None and status.waited > WAITING_SECONDS:
        detail = f"{waiting}, for {status.waited / 60:.0f} minutes now"
        if status.oldest is not None:
            detail += f"; the oldest is of {status.oldest:%Y-%m-%d %H:%M} UTC"
        return Finding.degraded(detail, "homelab-agent doctor database")
    return Finding.ok(waiting)
