"""Tells the journal each change of health, and systemd the one line that `systemctl status` shows."""

from __future__ import annotations

from collections.abc import Sequence

from homelab_agent.core import journal, systemd
from homelab_agent.core.clock import Clock
from homelab_agent.core.health import Change, Health, Standing, State, pressing

SOONEST_SECONDS = 0.2
"""systemd is told no more often."""

log = journal.logger("health")


def status_line(picture: Sequence[Standing]) -> str:
    """Return how the agent stands in one line: what needs the operator, or that all is well."""
    needs = pressing(picture)
    if not needs:
        return "all is well"
    first = needs[0]
    more = f" (and {len(needs) - 1} more)" if len(needs) > 1 else ""
    return f"{len(needs)} need{'s' if len(needs) == 1 else ''} you: {first.check}: {first.finding.detail}{more}"


async def run(health: Health, clock: Clock) -> None:
    """Tell until cancelled; the journal hears of a change of state, once."""
    said = ""
    with health.changes.subscribe() as changes:
        while True:
            if (line := status_line(health.picture())) != said:
                systemd.notify(STATUS=line)
                said = line
                await clock.sleep(SOONEST_SECONDS)
            _log(await changes.get())
            while not changes.empty():
                _log(changes.get_nowait())


async def stopping(health: Health) -> None:
    """Tell systemd that the stop has begun."""
    systemd.notify(STOPPING=1, STATUS=f"stopping; {status_line(health.picture())}")


def _log(change: Change) -> None:
    before, after = change.before, change.after
    finding = after.finding
    if before is not None and before.finding.state is finding.state and before.needs_operator == after.needs_operator:
        return
    if after.needs_operator:
        tell = log.error if finding.state is State.FAILED else log.warning
        tell("health.needs_you", check=after.check, state=finding.state, detail=finding.detail, repair=finding.repair)
    elif before is not None and before.needs_operator:
        log.info("health.recovered", check=after.check, state=finding.state, detail=finding.detail)
