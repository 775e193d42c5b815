"""What the root half does for metrics: it asks disks how they are, and Docker what containers are called."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from homelab_agent.core.privilege import Answer, Call, Verb
from homelab_agent.core.whereabouts import Whereabouts
from homelab_agent.metrics import docker, roster, smart
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.settings import MetricsSettings


def build(settings: MetricsSettings, _where: Whereabouts) -> Sequence[Verb]:
    """Return the verbs; they know no disks but those that `settings` show, and no Docker but that in them."""

    async def ask_disks(_: Call) -> Answer:
        try:
            disks = await smart.read(Host(""), settings)
        except smart.NoSmartctl:
            return {"installed": False, "disks": {}}
        return {"installed": True, "disks": {name: dict(said) for name, said in disks.items()}}

    async def containers(_: Call) -> Answer:
        return roster.to_answer(await asyncio.to_thread(docker.containers, settings.docker))

    return (Verb(smart.VERB, ask_disks), Verb(roster.VERB, containers))
