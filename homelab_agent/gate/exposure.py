"""Whether the door to the internet has been open for too long, or is published although it should be shut.

The check `gate.funnel` says how the door stands as it is meant to; this one, what is against somebody's will.
"""

from __future__ import annotations

from homelab_agent.core.health import Finding
from homelab_agent.gate.policy import PROMPT_TRIES, STRAY_LOOKS, Gate, lets_in

CHECK = "gate.exposure"

_TAKE_BACK = "homelab-agent gate close --now"
_HOLD = 'homelab-agent gate close --reason "it is not needed any more"'


def finding(gate: Gate, stretch: float, bound: float) -> Finding:
    """Return what health is told of a door that has been open for `stretch` seconds; a `bound` of 0 is none.

    The words stay the same while it lasts. That tailscaled does not answer, `gate.funnel` tells.
    """
    if gate.phase == "closing" and gate.tries > PROMPT_TRIES and gate.overlay != "unknown":
        return Finding.failed(f"it should be shut ({gate.why}), and Tailscale's session has not ended", _TAKE_BACK)
    if gate.stray >= STRAY_LOOKS:
        said = "a session that was not begun by this agent publishes the door, and does not end"
        return Finding.failed(said, _TAKE_BACK)
    if bound and lets_in(gate) and stretch >= bound:
        said = f"the internet has been let in for more than {_length(bound)} ([gate] tell_open_after)"
        return Finding.degraded(said, _HOLD)
    return Finding.ok("the door is open no longer than it should be")


def _length(seconds: float) -> str:
    """Return a length of time as `--for` takes it, in the largest unit that has no rest."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
