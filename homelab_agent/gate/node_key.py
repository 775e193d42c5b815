"""Whether this node's key ends before long: then nobody reaches this host through the tailnet, whatever the doors do.

So it is judged with every door shut, and with none configured, as soon as there is a section `[gate]`.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

from homelab_agent.core.clock import Clock
from homelab_agent.core.health import Check, Finding, State
from homelab_agent.gate import prerequisites
from homelab_agent.gate.reading import Reading
from homelab_agent.gate.tailscale import DaemonUnreachable, Tailscaled

CHECK = "gate.key"
EVERY_SECONDS = 600.0


def check(daemon: Tailscaled, clock: Clock) -> Check:
    """Return the check, which asks the daemon now and then."""
    return Check(CHECK, partial(probe, daemon, clock), every=EVERY_SECONDS)


async def probe(daemon: Tailscaled, clock: Clock) -> Finding:
    """Ask tailscaled; that it does not answer is no trouble of the key, and the doors say it."""
    try:
        told = await daemon.read()
    except DaemonUnreachable as error:
        return Finding(State.NOT_AVAILABLE, str(error), error.repair)
    return judged(told, clock.read().wall)


def judged(told: Reading, now: datetime) -> Finding:
    """Return what is to be said of the key: failed once it has expired, degraded when it will before long."""
    if (expired := prerequisites.expired(told, now)) is not None:
        return Finding.failed(expired.what, expired.repair)
    if (soon := prerequisites.expires_soon(told, now)) is not None:
        return Finding.degraded(soon.what, soon.repair)
    if told.key_expiry is not None:
        return Finding.ok(f"this node's key expires on {told.key_expiry:%Y-%m-%d %H:%M} UTC")
    if (disconnected := prerequisites.disconnected(told, now)) is not None:
        return Finding(State.NOT_AVAILABLE, disconnected.what)
    return Finding.ok("this node's key does not expire")
