"""What has failed on the host, in words: units of systemd."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from homelab_agent.core.health import Finding
from homelab_agent.metrics.sample import Reading

_NAMED = 5
"""More would fill a page."""


def of_units(readings: Sequence[Reading]) -> Finding:
    """Return which of these units have failed, and since when, the newest first; degraded: it is the host's affair."""
    failed = sorted((one for one in readings if one.values["failed"]), key=_when, reverse=True)
    if not failed:
        return Finding.ok(f"no unit of {len(readings)} has failed")
    said = ", ".join(_words(one) for one in failed[:_NAMED])
    more = f", and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    about = [one.entity.label for one in failed]
    return Finding.degraded(f"failed: {said}{more}", f"systemctl status {failed[0].entity.label}", about=about)


def _when(reading: Reading) -> float:
    since = reading.values["since"]
    return since.timestamp() if isinstance(since, datetime) else 0.0


def _words(reading: Reading) -> str:
    since, result = reading.values["since"], reading.values["result"]
    why = [str(result)] if result else []
    when = [f"since {since:%Y-%m-%d %H:%M} UTC"] if isinstance(since, datetime) else []
    return f"{reading.entity.label} ({', '.join([*why, *when])})" if why or when else reading.entity.label
