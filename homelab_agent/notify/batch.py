"""What a target is told next: a decision over what waits for it."""

from __future__ import annotations

from collections.abc import Sequence

from homelab_agent.notify.queue import Promise
from homelab_agent.notify.severity import Severity

ONE_BY_ONE = 3
"""So many messages that wait are sent each by itself; more of them are one digest, after an outage or quiet hours."""


def next_batch(waiting: Sequence[Promise], *, quiet: bool) -> Sequence[Promise]:
    """Return the promises that the next message keeps, the oldest first; none while there is nothing to say.

    In quiet hours only what is critical is said, its recovery included.
    """
    sendable = [one for one in waiting if not quiet or one.severity is Severity.CRITICAL]
    return sendable if len(sendable) > ONE_BY_ONE else sendable[:1]
