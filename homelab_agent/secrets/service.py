"""What `secrets` contributes: what becomes of each new value, and how OpenBao stands."""

from __future__ import annotations

from functools import partial

from homelab_agent.core.capability import Capability, Task
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import Check
from homelab_agent.core.jobs import Job
from homelab_agent.secrets.changes import Changes
from homelab_agent.secrets.client import SNAPSHOT_SECONDS
from homelab_agent.secrets.openbao import OpenBao
from homelab_agent.secrets.routes import Api
from homelab_agent.secrets.snapshots import Snapshots

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
        jobs=_jobs(openbao, base),
        routes=routes,
        checks=[Check(_CHECK, openbao.probe, deadline=15.0)],
        summary=openbao.summary,
        reload=openbao.reload,
    )


def _jobs(openbao: OpenBao, base: Foundation) -> list[Job]:
    settings = openbao.settings
    if settings.snapshot_dir is None:
        return []
    snapshots = Snapshots(openbao.client, settings.snapshot_dir, base.clock, keep=settings.snapshot_keep)
    return [
        Job(
            "secrets.snapshot",
            snapshots.run,
            deadline=SNAPSHOT_SECONDS + 60,
            schedule=settings.snapshot_schedule,
            catch_up=True,
            description="Take a snapshot of OpenBao's storage, and let go of the oldest.",
        )
    ]
