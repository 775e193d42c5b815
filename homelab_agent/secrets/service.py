"""What `secrets` contributes: what becomes of each new value, and how OpenBao stands."""

from __future__ import annotations

from functools import partial

from homelab_agent.core.capability import Capability, Task
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Check
from homelab_agent.secrets.changes import Changes
from homelab_agent.secrets.openbao import OpenBao
from homelab_agent.secrets.routes import Api

_CHECK = "secrets.openbao"


def build(openbao: OpenBao | None, base: Foundation) -> Capability:
    """Return what the room contributes; `openbao` is what `openbao.add` returned, None where it is off."""
    base.secrets.on_change = Changes(base.spool, base.clock, host=base.host).tell
    routes = Api(base.secrets).routes()
    if openbao is None:
        return Capability(name="secrets", routes=routes)
    return Capability(
        name="secrets",
        tasks=[
            Task("secrets.log_in", openbao.log_in),
            Task("secrets.poll", lambda: openbao.run(partial(base.health.report, _CHECK))),
        ],
        routes=routes,
        checks=[Check(_CHECK, openbao.probe, deadline=15.0)],
        summary=openbao.summary,
        reload=openbao.reload,
    )
