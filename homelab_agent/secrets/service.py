"""What `secrets` contributes: the references to OpenBao, what becomes of each new value, and their checks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from homelab_agent.core.capability import Capability, Task
from homelab_agent.core.clock import Clock
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Check
from homelab_agent.core.secret import Secrets
from homelab_agent.secrets.changes import Changes
from homelab_agent.secrets.routes import Api
from homelab_agent.secrets.settings import SecretsSettings

if TYPE_CHECKING:
    from homelab_agent.secrets.openbao import OpenBao


def add_openbao(settings: SecretsSettings, secrets: Secrets, directory: Path, clock: Clock) -> OpenBao | None:
    """Have `secrets` understand references to OpenBao, where it is configured.

    `directory` is the agent's state directory. Raises `ReferenceFaulty` for the reference to log in with.
    """
    if not settings.url:
        return None
    from homelab_agent.secrets.client import Client  # imports hvac, which an agent without OpenBao does not need
    from homelab_agent.secrets.openbao import OpenBao

    secret_id = secrets.find(settings.secret_id) if settings.secret_id else None
    token = secrets.find(settings.token) if settings.token else None
    client = Client(settings, directory=directory, secret_id=secret_id, token=token, clock=clock, hide=secrets.hide)
    return OpenBao(settings, secrets, client, clock)


def build(openbao: OpenBao | None, base: Foundation) -> Capability:
    """Return what the room contributes; `openbao` is what `add_openbao` returned."""
    base.secrets.on_change = Changes(base.spool, base.clock, host=base.host).tell
    routes = Api(base.secrets).routes()
    if openbao is None:
        return Capability(name="secrets", routes=routes)
    return Capability(
        name="secrets",
        tasks=[Task("secrets.log_in", openbao.log_in), Task("secrets.poll", openbao.run)],
        routes=routes,
        checks=[Check("secrets.openbao", openbao.probe, deadline=15.0)],
        summary=openbao.summary,
        reload=openbao.reload,
    )
