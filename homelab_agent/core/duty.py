"""Whether the agent does what it is for: jobs turn, and the last due sample was stored, spooled, or its loss counted.

systemd's watchdog and the heartbeat that somebody else misses both ask this, and are silent while it is not so.
"""

from __future__ import annotations

from collections.abc import Iterable

from homelab_agent.core.health import Health
from homelab_agent.core.pulse import Pulse

BLOCKED = "watchdog"
"""What a check blocks (`Check.blocks`) without which the agent does not do its work."""


def neglected(health: Health, pulses: Iterable[Pulse]) -> str:
    """Return what the agent does not do, in words that stay the same while it lasts; "" while it does its work."""
    silent = [pulse.name for pulse in pulses if not pulse.beats]
    if silent:
        return f"no heartbeat of {', '.join(silent)}"
    if not health.ready(BLOCKED):
        return "the last due sample was not taken"
    return ""


async def asked(health: Health) -> None:
    """Return once each check that is asked for this was answered: before that, nobody knows."""
    with health.changes.subscribe() as changes:
        while _is_unknown(health):
            await changes.get()


def _is_unknown(health: Health) -> bool:
    answered = {standing.check for standing in health.answered()}
    return any(standing.check not in answered for standing in health.blocking(BLOCKED))
