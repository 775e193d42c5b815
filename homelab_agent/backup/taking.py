"""One run of one set at one engine: planned, kept still, copied, resumed, read back, and only then it counts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from homelab_agent.backup import dumps, hooks, pg_control, proposal, sizes, trust, volume_note, wire
from homelab_agent.backup.docker import Docker
from homelab_agent.backup.freeze import Freeze, Mode, Order, frozen
from homelab_agent.backup.frozen import Frozen
from homelab_agent.backup.inventory import Container, Inventory
from homelab_agent.backup.point import Copied, Engine, Point, Said, Verdict
from homelab_agent.backup.proposal import Planned
from homelab_agent.backup.resume import Notice
from homelab_agent.backup.settings import BackupSet, BackupSettings
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.errors import AgentError

_Copy: TypeAlias = tuple[Copied, Verdict, Mapping[str, float]]
"""What was copied, what it is worth, and for how many milliseconds each container stood still."""
_WORSE: Sequence[Verdict] = ("cold", "dump", "crash", "live", "dirty")
"""A copy is what the worst is of what is in it."""


class NoMomentOfItsOwn(AgentError):
    """The copy of {set_name} is of no one moment: {names} did not stand still, or did not end in order."""

    repair = "see who else starts containers, or what ends them so slowly: docker events"


class NotShutDown(AgentError):
    """The PostgreSQL of {names} had not shut down in order when it ended, so its copy is not cold."""

    repair = 'give it longer to end (stop_grace_period, --stop-timeout), or choose mode = "auto", in which it dumps'


async def planned(wanted: BackupSet, docker: Docker) -> tuple[Planned, Inventory]:
    """Return what a set is now, measured, and what was seen for that."""
    inventory = await docker.inventory()
    first = proposal.plan(wanted, inventory)
    return proposal.plan(wanted, inventory, await sizes.sizes(first.sources)), inventory


class Taking:
    """Takes copies; `event` is told what stands still and what runs again."""

    def __init__(self, settings: BackupSettings, *, say: Said, event: Callable[[Mapping[str, Any]], None]) -> None:
        self._settings = settings
        self._say = say
        self._event = event
        self._notes: list[str] = []
        self._clock = SystemClock()

    async def take(self, wanted: BackupSet, engine: Engine, run_id: str) -> wire.Done:
        """Take one, and return what counts now, with what went wrong after it; raises what its parts raise.

        Nothing counts then.
        """
        async with Docker(self._settings.docker) as docker:
            plan, inventory = await planned(wanted, docker)
            plan.check()
            taken = [dump for one in plan.dumps for dump in await dumps.of(one, docker)]
            await engine.room(wanted.name, plan.bytes + sum(dump.size for dump in taken))
            about = {**_about(plan, inventory), "dumps": {dump.member: dump.about for dump in taken}}
            point = Point(wanted.name, self._clock.read().wall, plan.verdict, plan.sources, taken, about)
            hooked = hooks.Hooks(docker, plan.containers, self._settings.records, self._said)
            copied, verdict, still = await self._copy(plan, point, engine, docker, run_id, hooked)
        archive = await engine.finish(copied, replace(point, verdict=verdict), self._say)
        troubles = list(map(wire.Trouble.of, hooked.failed))
        troubles += await trust.note_written(self._settings.records, archive, self._clock.read().wall)
        frozen_ms = {name: round(ms) for name, ms in still.items()}
        return wire.Done(archive, frozen_ms, [*plan.notes, *self._notes], troubles)

    async def _copy(
        self, plan: Planned, point: Point, engine: Engine, docker: Docker, run_id: str, hooked: hooks.Hooks
    ) -> _Copy:
        """Copy between the containers' own commands; what runs afterwards does so whatever happens."""
        done: _Copy | None = None
        try:
            async with hooked.around():
                if plan.how == "none":
                    verdict = await self._ended(plan)
                    done = await engine.copy(point, self._say), verdict, {}
                else:
                    done = await self._copy_frozen(plan, point, engine, docker, run_id)
        except BaseException:
            if done is not None:
                await engine.discard(done[0])
            raise
        return done

    async def _copy_frozen(self, plan: Planned, point: Point, engine: Engine, docker: Docker, run_id: str) -> _Copy:
        records = Frozen(self._settings.records / "frozen")
        copied: Copied | None = None
        try:
            self._event({"frozen": [one.name for one in plan.to_freeze], "seconds": plan.wanted.freeze_budget})
            async with frozen(docker, records, _order(plan, run_id), tell=self._tell) as still:
                verdict = await self._ended(plan)
                copied = await engine.copy(point, self._say)
            if still.verdict == "dirty":
                raise NoMomentOfItsOwn(set_name=plan.name, names=", ".join(_restless(still)))
        except BaseException:
            if copied is not None:
                await engine.discard(copied)
            raise
        finally:
            self._event({"runs": [one.name for one in plan.to_freeze]})
            records.close()
        return copied, max(verdict, still.verdict, key=_WORSE.index), still.milliseconds

    async def _ended(self, plan: Planned) -> Verdict:
        """Return the verdict, now that PostgreSQLs have ended which were to; raises `NotShutDown` for such a one.

        One that had ended before, and not in order, is as after a power cut.
        """
        if plan.verdict != "cold":
            return plan.verdict
        ours = {one.id: one for one in plan.to_freeze}  # with who mounts what lies within a path of the set
        asked = {one.id: one for one in plan.containers} | ours
        told = [(one, await asyncio.to_thread(pg_control.not_shut_down, one)) for one in asked.values()]
        bad = [(one, f"{one.name} ({'; '.join(why)})") for one, why in told if why]
        if stopped := [what for one, what in bad if one.id in ours]:
            raise NotShutDown(names=", ".join(stopped))
        self._notes += [f"{what} had ended, and not in order" for _, what in bad]
        return "crash" if bad else "cold"

    def _said(self, name: str, what: str) -> None:
        self._notes.append(f"{name}: {what}")
        self._event({"notice": "hook", "container": name, "detail": what})

    def _tell(self, notice: Notice) -> None:
        self._event({"notice": notice.what, "container": notice.name, "detail": notice.detail})


def _order(plan: Planned, run_id: str) -> Order:
    """Return what is to be frozen, and how; a PostgreSQL by the signal that has it end though clients are connected."""
    fast = {one.id: "SIGINT" for one in plan.to_freeze if "postgres" in one.programs}
    mode: Mode = "stop" if plan.how == "stop" else "pause"
    return Order(plan.to_freeze, mode, plan.name, run_id, plan.wanted.freeze_budget, fast)


def _restless(still: Freeze) -> list[str]:
    return sorted({*still.killed, *still.stirred})


def _about(plan: Planned, inventory: Inventory) -> Mapping[str, Any]:
    """Return what who restores must know of what was there; `dumping` are who dumps into the set and is not of it."""
    outside = [one.container for one in plan.dumps if one.container not in plan.containers]
    return {
        "host": os.uname().nodename,
        "docker": inventory.version,
        "mode": plan.mode,
        "how": plan.how,
        "project": plan.wanted.project,
        "volumes": _volumes(plan, inventory),
        "containers": {one.name: _container(one) for one in plan.containers},
        "dumping": {one.name: _container(one) for one in outside},
    }


def _container(one: Container) -> Mapping[str, Any]:
    return {
        "image": one.image,
        "image_id": one.image_id,
        "state": one.state,
        "service": one.identity.service,
        "compose_hash": one.compose_hash,
        "compose_files": [str(path) for path in one.compose_files],
        "mounts": {mount.target: mount.name or str(mount.source) for mount in one.mounts},
    }


def _volumes(plan: Planned, inventory: Inventory) -> Mapping[str, Any]:
    """Return how each volume of a set's containers is made."""
    names = {mount.name for one in plan.containers for mount in one.mounts if mount.name}
    names |= {source.member.removeprefix("volumes/") for source in plan.sources}
    return {name: volume_note.note(one) for name, one in inventory.volumes.items() if name in names}
