"""The samples that an agent has brought to its database, asked of the agent's own `db psql`."""

from __future__ import annotations

from datetime import datetime

from tests.agent import Agent

_MISSING = """
SELECT time FROM (
    SELECT time, skipped, extract(epoch FROM time - lag(time) OVER (ORDER BY time)) AS apart FROM tick
) AS pair WHERE apart > {interval} * (skipped + 1.5) ORDER BY time
"""


def times(agent: Agent) -> list[datetime]:
    """Return the times of all samples, in the order in which they came; those that came together by time.

    Where a row lies does not tell: a short one fills what is left of a page before.
    """
    found = agent.sql("SELECT time FROM tick ORDER BY xmin::text::bigint, time")
    return [datetime.fromisoformat(row["time"]) for row in found]


def missing(agent: Agent, *, interval: int = 1) -> list[str]:
    """Return the times before which a sample is missing; one that a busy host kept from being taken is counted."""
    return [row["time"] for row in agent.sql(_MISSING.format(interval=interval))]
