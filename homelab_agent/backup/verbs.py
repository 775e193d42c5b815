"""What the root half does for backups: all that touches Docker, volumes and copies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from homelab_agent.backup import alone, drill_place, engines, own, retention, wire
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.drill import Drilling
from homelab_agent.backup.drilled import of_drilled
from homelab_agent.backup.point import Archive, Engine
from homelab_agent.backup.settings import AGENT_SET, ARCHIVE, BackupSettings
from homelab_agent.backup.taking import Taking
from homelab_agent.backup.trust import Trust, TrustNotDropped
from homelab_agent.core import journal
from homelab_agent.core.arguments import Argument, Name, Word
from homelab_agent.core.privilege import Answer, Call, Verb
from homelab_agent.core.whereabouts import Whereabouts

log = journal.logger("backup")


def build(settings: BackupSettings, where: Whereabouts) -> Sequence[Verb]:
    """Return the verbs; they know no set and no engine but those in `settings`."""
    verbs = _Verbs(settings, where)
    engine: dict[str, Argument] = {"engine": Name(settings.engine_names)}
    archive: dict[str, Argument] = {**engine, "archive": Word()}
    run: dict[str, Argument] = {**engine, "set": Name({one.name for one in settings.covered}), "run": Word()}
    return (
        Verb("backup_plan", verbs.plan),
        Verb("backup_run", verbs.run, run),
        Verb("backup_list", verbs.list, engine),
        Verb("backup_verify", verbs.verify, archive),
        Verb("backup_drill", verbs.drill, archive),
        Verb("backup_forget", verbs.forget, archive),
        Verb("backup_sweep", verbs.sweep, engine),
        Verb("backup_resume", verbs.resume),
    )


class _Verbs:
    def __init__(self, settings: BackupSettings, where: Whereabouts) -> None:
        self._settings = settings
        self._where = where
        self._resuming = asyncio.Lock()

    async def plan(self, _: Call) -> Answer:
        return await alone.plan(self._settings, self._where)

    async def run(self, call: Call) -> Answer:
        name = call.arguments["set"]
        if name == AGENT_SET:
            return wire.of_done(await own.take(self._settings, self._where, await self._engine(call), _saying(call)))
        wanted = next(one for one in self._settings.set if one.name == name)
        taking = Taking(self._settings, say=_saying(call), event=lambda told: _tell(call, told))
        engine = await self._engine(call)
        async with self._resuming:  # what a killed run has left is not taken for that of a living one
            pass
        return wire.of_done(await taking.take(wanted, engine, call.arguments["run"]))

    async def list(self, call: Call) -> Answer:
        engine = await self._engine(call)
        return {"archives": [wire.of_archive(one) for one in await engine.list()]}

    async def verify(self, call: Call) -> Answer:
        engine, archive = await self._engine(call), call.arguments["archive"]
        verified = await engine.verify(archive, _saying(call))
        if verified.good and engine.name != ARCHIVE:
            await alone.trust_what_was_read(self._settings, engine, archive)
        return wire.of_verified(verified)

    async def drill(self, call: Call) -> Answer:
        engine = await self._engine(call)
        async with Docker(self._settings.docker) as docker:
            drilling = Drilling(engine, docker, self._settings, say=_saying(call))
            return of_drilled(await drilling.drill(call.arguments["archive"]))

    async def forget(self, call: Call) -> Answer:
        engine, archive = await self._engine(call), call.arguments["archive"]
        listed = await engine.list()
        retention.check_left(listed, archive, self._settings.keep.least)
        await engine.forget(archive)
        for one in listed:
            if one.id == archive:
                await self._forget_trust(one)
        return {}

    async def _forget_trust(self, archive: Archive) -> None:
        try:
            await asyncio.to_thread(Trust(self._settings.records).forget, archive)
        except TrustNotDropped as error:  # a line too many
            log.warning("backup.trust_left", archive=archive.id, cause=str(error))

    async def sweep(self, call: Call) -> Answer:
        engine = await self._engine(call)
        swept = list(await engine.sweep())
        expired = [f"what the restore {one} had replaced" for one in await alone.expire(self._settings)]
        drilled = await drill_place.sweep(self._settings.drill_place, self._settings.docker)
        return wire.of_swept(wire.Swept([*swept, *expired, *drilled.gone], drilled.left))

    async def resume(self, _: Call) -> Answer:
        async with self._resuming:
            return {"resumed": list(await alone.resume(self._settings))}

    async def _engine(self, call: Call) -> Engine:
        name = call.arguments["engine"]
        secrets = await asyncio.to_thread(engines.secrets_in, self._settings, name, call.descriptors)
        return engines.make(self._settings, name, secrets, lambda line: call.say("stderr", line))


def _saying(call: Call) -> Any:
    def say(done: int, total: int | None, what: str) -> None:
        _tell(call, {"done": done, "total": total, "what": what})

    return say


def _tell(call: Call, told: Mapping[str, Any]) -> None:
    call.say("stdout", json.dumps(told))
