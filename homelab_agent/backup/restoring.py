"""A copy comes back beside what lives: whole and as it was written, or not at all."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from homelab_agent.backup import beside as beside_of
from homelab_agent.backup import engines
from homelab_agent.backup.aim import Wish, check_trust, chosen
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.docker_errors import DockerUnreachable
from homelab_agent.backup.opening import secrets_of
from homelab_agent.backup.point import Engine, Said, Verified, nobody
from homelab_agent.backup.project import Made, Making
from homelab_agent.backup.restore import Restoring
from homelab_agent.backup.restore_errors import NoSuchEngine, NotAsItWas
from homelab_agent.backup.settings import ARCHIVE, BackupSettings
from homelab_agent.core.secret import Secrets


async def opened(settings: BackupSettings, name: str, secrets: Secrets) -> Engine:
    """Return an engine that can be asked; raises `NoSuchEngine`."""
    if name == ARCHIVE:
        return engines.make(settings, name, {})
    repository = next((one for one in settings.repository if one.name == name), None)
    if repository is None:
        raise NoSuchEngine(name=name, names=", ".join(settings.engine_names))
    return engines.repository(settings, repository, await secrets_of(repository, secrets.find))


@asynccontextmanager
async def replacing(settings: BackupSettings, engine: str, secrets: Secrets) -> AsyncIterator[Restoring]:
    """Give what restores in place; where Docker does not answer, what does so without it."""
    found = await opened(settings, engine, secrets)
    async with AsyncExitStack() as stack:
        docker: Docker | None = None
        with suppress(DockerUnreachable):
            docker = await stack.enter_async_context(Docker(settings.docker))
        yield Restoring(found, docker, settings.records)


async def make(
    settings: BackupSettings, wish: Wish, engine_name: str, name: str, secrets: Secrets, *, say: Said = nobody
) -> Made:
    """Make the project `name` of a copy, and a directory called so here of what is no volume."""
    engine = await opened(settings, engine_name, secrets)
    async with Docker(settings.docker) as docker:
        return await Making(engine, docker, settings.records, say=say).make(wish, name, Path.cwd() / name)


async def restore(
    settings: BackupSettings, wish: Wish, engine_name: str, place: Path, secrets: Secrets, *, say: Said = nobody
) -> Verified:
    """Unpack beside the place, and have it be there when all hashes match; raises what is wrong, and leaves nothing."""
    engine = await opened(settings, engine_name, secrets)
    archive = await chosen(engine, wish)
    devices = await check_trust(settings.records, archive, wish.trust)
    beside = await asyncio.to_thread(beside_of.begun, place)

    def told(done: int, total: int | None, what: str) -> None:
        say(done, total or archive.bytes, what)

    try:
        found = await engine.restore(archive.id, beside, wish.globs, told, devices=devices)
        if not found.good:
            raise NotAsItWas(id=archive.id, cause="; ".join(found.faults[:3]))
        await asyncio.to_thread(beside_of.join, beside, await engine.contents(archive.id))
        await asyncio.to_thread(beside_of.put, beside, place)
    except BaseException:
        await asyncio.to_thread(shutil.rmtree, beside, ignore_errors=True)
        raise
    return found
