"""What a person's command asks of Docker as root, whether an agent runs or not; and what the root half's verbs do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from homelab_agent.backup import drill_place, engines, healing, hooks, kit, own, proposal, sizes
from homelab_agent.backup.beyond import ThroughDocker
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.docker_errors import DockerTooOld, DockerUnreachable
from homelab_agent.backup.frozen import Frozen
from homelab_agent.backup.opening import secrets_of
from homelab_agent.backup.point import Engine
from homelab_agent.backup.proposal import Planned
from homelab_agent.backup.restore_errors import RestoreUnderWay
from homelab_agent.backup.settings import BackupSettings
from homelab_agent.backup.trust import Trust
from homelab_agent.backup.undo import Healed, Undos
from homelab_agent.core.secret import Secrets
from homelab_agent.core.whereabouts import Whereabouts


async def plan(settings: BackupSettings, where: Whereabouts) -> Mapping[str, Any]:
    """Return the sets as they are now, the agent's own with them, and those that are proposed for what is in none."""
    async with Docker(settings.docker) as docker:
        inventory = await docker.inventory()
    sets = [proposal.plan(one, inventory) for one in settings.set]
    measured = await sizes.sizes(
        source for one in (*sets, *proposal.proposed(inventory, settings)) for source in one.sources
    )
    ours = [await asyncio.to_thread(own.told, settings, where)] if settings.covered else []
    return {
        "sets": [*(told(proposal.plan(one, inventory, measured)) for one in settings.set), *ours],
        "proposed": [told(one) for one in proposal.proposed(inventory, settings, measured)],
        "refused": inventory.refused,
    }


async def resume(settings: BackupSettings) -> Sequence[str]:
    """Have all run again that a backup or a restore has left still, then their own commands; return their names.

    What a killed restore has begun is ended first: they are not to start on half of it, and raises `HalfRestored` where
    that does not succeed. What a killed drill has left is cleared away last: no container waits for that.
    """
    healed: Sequence[Healed] = ()
    if await asyncio.to_thread(Undos(settings.records).unfinished):
        async with undos(settings) as those:
            healed = await asyncio.to_thread(those.heal_left)
    try:
        return await _resumed(settings, healed)
    finally:
        await drill_place.sweep(settings.drill_place, settings.docker)


async def _resumed(settings: BackupSettings, healed: Sequence[Healed]) -> Sequence[str]:
    frozen, hooked = Frozen(settings.records / "frozen"), hooks.records_of(settings.records)
    try:
        if not await frozen.read() and not await hooked.read():
            return []
    finally:
        frozen.close()
        hooked.close()
    async with Docker(settings.docker) as docker:
        return await healing.resume_left(docker, settings.records, Undos(settings.records), healed)


async def expire(settings: BackupSettings) -> Sequence[str]:
    """Take away what restores have replaced, where it was kept long enough; return the ids of those restores."""
    with suppress(RestoreUnderWay):  # the next round does it
        keep = timedelta(days=settings.undo_days)
        async with undos(settings) as expiring:
            return await asyncio.to_thread(expiring.expire, datetime.now(UTC), keep)
    return []


@asynccontextmanager
async def undos(settings: BackupSettings) -> AsyncIterator[Undos]:
    """Give what restores have noted, with Docker where that answers and can be spoken to."""
    async with AsyncExitStack() as stack:
        through: ThroughDocker | None = None
        with suppress(DockerUnreachable, DockerTooOld):
            docker = await stack.enter_async_context(Docker(settings.docker))
            through = ThroughDocker(docker, settings.records, asyncio.get_running_loop())
        yield Undos(settings.records, through)


async def init(settings: BackupSettings, name: str, secrets: Secrets, *, kit_is_kept: bool) -> None:
    """Make a restic repository."""
    repository = next(one for one in settings.repository if one.name == name)
    given = await secrets_of(repository, secrets.find)
    await engines.repository(settings, repository, given).init(kit_is_kept=kit_is_kept)
    await asyncio.to_thread(kit.keep, settings.records, name, datetime.now(UTC))


async def trust_what_was_read(settings: BackupSettings, engine: Engine, archive_id: str) -> None:
    """Trust what a repository gave back whole: only who has its password can have put it there."""
    trust = Trust(settings.records)
    for archive in await engine.list():
        if archive.id == archive_id and await asyncio.to_thread(trust.how, archive.sha256) is None:
            await asyncio.to_thread(trust.note, archive, datetime.now(UTC), "read back")


async def secrets_of_all(settings: BackupSettings, secrets: Secrets) -> Mapping[str, Mapping[str, Any]]:
    """Return by its name what opens each repository."""
    return {one.name: await secrets_of(one, secrets.find) for one in settings.repository}


def told(planned: Planned) -> Mapping[str, Any]:
    """Return a planned set as a program is told."""
    refusals = [{"what": one.cause, "repair": one.repair} for one in planned.refusals]
    return {
        "name": planned.name,
        "mode": planned.mode,
        "how": planned.how,
        "verdict": planned.verdict,
        "members": [source.member for source in planned.sources],
        "dumps": [one.container.name for one in planned.dumps],
        "frozen": [one.name for one in planned.to_freeze],
        "freeze_seconds": planned.freeze_seconds,
        "bytes": planned.bytes,
        "refusals": refusals,
        "notes": list(planned.notes),
        "entry": dict(proposal.entry(planned.wanted)),
    }
