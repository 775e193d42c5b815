"""What the way to the root half contributes to the agent: the child's task and a check."""

from __future__ import annotations

from homelab_agent.core.capability import Capability, Task
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Check
from homelab_agent.privileged.client import Client


def build(base: Foundation) -> Capability:
    """Build the capability on the foundation's way to the root half, which is a `Client`."""
    client = base.privileged
    if not isinstance(client, Client):
        message = "the foundation's way to the root half is not the one of this room"
        raise TypeError(message)
    return Capability(
        name="privileged",
        tasks=[Task("privileged", client.run)],
        checks=[Check("privileged", client.probe, every=60.0, deadline=10.0)],
    )
