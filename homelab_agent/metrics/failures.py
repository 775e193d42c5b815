"""What has failed on the host, in words: units of systemd."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from homelab_agent.core.health import Finding
from homelab_agent.metrics.sample import Reading

_NAMED = 5
"""More would fill a page."""


def of_units(readings: Sequence[Reading]) -> Finding:
    """Return which of these units have failed, and since when; degraded, for it is the host's affair."""
    failed = [one for one in readings if one.values["failed"]]
    if not failed:
        return Finding.ok(f"no unit of {len(readings)} has failed")
    said = ", ".join(_words(one) for one in failed[:_NAMED])
    more = f", and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    return Finding.degraded(f"failed: {said}{more}", f"systemctl status {failed[0].entity.label}")


def _words(reading: Reading) -> str:
    since, result = reading.values["since"], reading.values["result"]
    why = [str(result)] if result else []
    when = [f"since {since:%Y-%m-%d %H:%M} UTC"] if isinstance(since, datetime) else []
    return f"{reading.entity.label} ({', '.join([*why, *when])})" if why or when else reading.entity.label
