"""The root half as the agent sees it: a client, its task and its check."""

from __future__ import annotations

from homelab_agent.core.capability import Capability, Task
from homelab_agent.core.health import Check
from homelab_agent.privileged.client import Client


def build(client: Client) -> Capability:
    """Return what belongs to the client that is in `Foundation.privileged`."""
    return Capability(
        name="privileged",
        tasks=[Task("privileged", client.run)],
        checks=[Check("privileged", client.probe, every=300.0)],
    )
