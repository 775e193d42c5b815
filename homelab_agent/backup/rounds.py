"""Rounds over sets and archives: backed up, read whole again, deleted when nobody needs them any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from homelab_agent.backup import retention, wire
from homelab_agent.backup.asking import RootHalf
from homelab_agent.backup.catalogue import Catalogue, Entry, RunEnd, Trouble
from homelab_agent.backup.point import Archive
from homelab_agent.backup.retention import Kept, Plan
from homelab_agent.backup.settings import AGENT_SET, BackupSettings
from homelab_agent.core import journal
from homelab_agent.core.clock import Clock, about
from homelab_agent.core.errors import AgentError, describe
from homelab_agent.core.health import Health
from homelab_agent.core.jobs import Outcome, Run, of_options

_EXPECTED = ("database.", "gitops.")
"""What asks containers whether they are well: that they do not answer while they stand still is no news."""

_SEE = "homelab-agent backup plan"
"""What is asked where nothing else is known to mend it."""

RESUME_SECONDS = 300.0
DATABASE_SECONDS = 120.0
"""How long the agent's database may take to come up, where a run is made up for as soon as the agent starts."""

log = journal.logger("backup")


@dataclass(frozen=True, slots=True)
class _End:
    """What became of a set at an engine, in words, what mends it where something went wrong, whether a copy counts."""

    said: str
    repair: str = ""
    counts: bool = False


class Rounds:
    """The jobs' functions."""

    def __init__(
        self,
        settings: BackupSettings,
        half: RootHalf,
        catalogue: Catalogue,
        health: Health,
        clock: Clock,
        *,
        database: Callable[[], Awaitable[None]],
    ) -> None:
        """`database` returns when the agent's own can be dumped."""
        self._database = database
        self._settings = settings
        self._half = half
        self._catalogue = catalogue
        self._health = health
        self._clock = clock
        self.stuck: AgentError | None = None
        """Why it is not known that nothing stands still for a run that is no more."""
        self._unwritten: dict[tuple[str, str], Trouble] = {}  # what went wrong while state.db took nothing
        self._left: dict[str, str] = {}  # what could not be swept, and which run has said so

    def reload(self, settings: BackupSettings) -> None:
        """Go by what is configured now."""
        self._settings = settings

    async def troubles(self, name: str) -> Sequence[Trouble]:
        """Return what went wrong last with a set at the engines where it goes, also before the agent was restarted."""
        written = {one.engine: one for one in await self._catalogue.troubles(name)}
        unwritten = {engine: one for (of, engine), one in self._unwritten.items() if of == name}
        engines = {engine for one in self._settings.covered if one.name == name for engine in one.engines}
        return [one for engine, one in (written | unwritten).items() if engine in engines]

    async def back_up(self, run: Run) -> Outcome:
        """Back up all sets, or the one that is asked for, to each of its engines; then delete what need not be kept.

        One engine after the other: what is far away, or does not answer, delays nothing that does not go there.
        """
        wanted = of_options(run.options).get("set", "")
        chosen = [one for one in self._settings.covered if wanted in {"", one.name}]
        told: list[str] = []
        ends: dict[tuple[str, str], _End] = {}
        for engine in self._settings.engine_names:
            names = [one.name for one in chosen if engine in one.engines]
            away = await self._look(run, engine) if names else None
            for name in names:
                if run.cancelled.is_set():
                    return Outcome(ok=False, detail="; ".join([*told, "it was asked to stop"]))
                if name == AGENT_SET and away is None:
                    with suppress(TimeoutError):  # its dump says what is wrong
                        async with asyncio.timeout(DATABASE_SECONDS):
                            await self._database()
                ends[name, engine] = end = await self._one(run, name, engine, away)
                told.append(end.said)
                run.say(end.said)
        for one in chosen:
            good = [engine for engine in one.engines if ends[one.name, engine].counts]
            told += await self._prune_set(one.name, good, accepted=False)
            await self._health.probe(f"backup.{one.name}")
        repair = next((one.repair for one in ends.values() if one.repair), "")
        return Outcome(ok=not repair, detail="; ".join(told) or "there is no set", repair=repair)

    async def verify(self, run: Run) -> Outcome:
        """Read archives whole: all, those of a set, or one."""
        asked = of_options(run.options)
        for engine in self._engines_of(asked.get("set", "")):
            await self._look(run, engine)
        chosen = [
            entry
            for entry in await self._catalogue.entries(asked.get("set", ""))
            if asked.get("archive", entry.id) == entry.id
        ]
        bad = []
        whole, before = sum(entry.bytes for entry in chosen), 0
        for number, entry in enumerate(chosen, 1):
            if run.cancelled.is_set():
                break
            say = partial(_read_so_far, run, before, whole, f"{entry.id} ({number} of {len(chosen)})")
            before += entry.bytes
            try:
                found = await self._half.verify(entry.engine, entry.id, say)
            except AgentError as error:
                bad.append(f"{entry.id}: {error}")
                continue
            await self._catalogue.verified(entry.engine, entry.id, good=found.good)
            if not found.good:
                bad.append(f"{entry.id} is damaged: {'; '.join(found.faults[:3])}")
            run.say(f"{entry.id}: {found.files} files, {'good' if found.good else 'damaged'}")
        detail = "; ".join(bad) or f"{len(chosen)} archives are as they were written"
        return Outcome(ok=not bad, detail=detail, repair="homelab-agent backup run" if bad else "")

    async def prune(self, run: Run) -> Outcome:
        """Delete what need not be kept; `accept` names a set whose last change of size is meant."""
        accepted = of_options(run.options).get("accept", "")
        for engine in self._engines_of(""):
            await self._look(run, engine)
        told = []
        for one in self._settings.covered:
            told += await self._prune_set(one.name, one.engines, accepted=one.name == accepted)
        return Outcome(ok=True, detail="; ".join(told) or "nothing is deleted")

    async def watch(self) -> None:
        """Have run again, now and then until cancelled, what a run that is no more has left still."""
        while True:
            try:
                for name in await self._half.resume():
                    log.warning("backup.resumed", container=name)
                self.stuck = None
            except AgentError as error:
                self.stuck = error
            await self._clock.sleep(about(self._clock.read(), RESUME_SECONDS))

    async def plans(self) -> Sequence[tuple[str, str, Sequence[Entry], Plan]]:
        """Return for each set and engine its archives, and what is kept of them and why."""
        found = []
        for one in self._settings.covered:
            for engine in one.engines:
                entries = await self._catalogue.entries(one.name, engine)
                found.append((one.name, engine, entries, self._plan(entries, accepted=False)))
        return found

    async def _one(self, run: Run, name: str, engine: str, away: AgentError | None) -> _End:
        """Back up one set to one engine; return what became of it.

        `away` is why the engine cannot be asked: then nothing is begun.
        """
        began = self._clock.read().wall
        ends: list[Callable[[], None]] = []

        def on_event(told: wire.Fields) -> None:
            if "frozen" in told:
                ends.append(self._expect(name, began, float(told["seconds"])))
            elif "runs" in told:
                while ends:
                    ends.pop()()

        def say(done: int, total: int | None, what: str) -> None:
            run.progress(done, total, "bytes", f"{name} to {engine}: {what}")

        if away is not None:
            return await self._failed(run, name, engine, began, away)
        try:
            done = await self._half.run(name, engine, run.id, say, on_event)
        except AgentError as error:
            return await self._failed(run, name, engine, began, error)
        finally:
            while ends:
                ends.pop()()
        for note in done.notes:
            run.say(f"{name} to {engine}: {note}")
        return await self._stored(run, name, engine, began, done)

    async def _stored(self, run: Run, name: str, engine: str, began: datetime, done: wire.Done) -> _End:
        """Record a copy that counts; also where something went wrong after it, which fails the run."""
        archive, wrong, repair = done.archive, "; ".join(one.cause for one in done.troubles), ""
        if wrong:
            repair = done.troubles[0].repair or _SEE
            log.warning("backup.failed_after", set=name, engine=engine, cause=wrong)
        state = "failed" if wrong else "ok"
        end = RunEnd(name, engine, state, began, run.id, wrong, repair, archive.bytes, done.frozen_ms)
        await self._catalogue.end_run(end, archive)
        self._unwritten.pop((name, engine), None)
        still = max(done.frozen_ms.values(), default=0)
        log.info("backup.stored", set=name, engine=engine, archive=archive.id, bytes=archive.bytes, frozen_ms=still)
        said = f"{name} to {engine}: {archive.files} files read back, {archive.verdict}, still for {still} ms"
        return _End("; ".join(filter(None, [said, wrong])), repair, counts=True)

    async def _failed(self, run: Run, name: str, engine: str, began: datetime, error: AgentError) -> _End:
        log.warning("backup.failed", set=name, engine=engine, cause=describe(error))
        why = describe(error)
        self._unwritten[name, engine] = Trouble(engine, why, error.repair)
        with suppress(AgentError):
            await self._catalogue.end_run(RunEnd(name, engine, "failed", began, run.id, why, error.repair))
            del self._unwritten[name, engine]
        return _End(f"{name} to {engine} failed: {why}", error.repair or _SEE)

    def _expect(self, name: str, now: datetime, seconds: float) -> Callable[[], None]:
        checks = [one.check for one in self._health.picture() if one.check.startswith(_EXPECTED)]
        return self._health.expect(checks, f"backup of {name}", now + timedelta(seconds=seconds + 60))

    def _engines_of(self, name: str) -> Sequence[str]:
        """Return where a set goes, where any goes for ""; of one that is configured no more, where it may be."""
        found = {engine for one in self._settings.covered if name in {"", one.name} for engine in one.engines}
        return [one for one in self._settings.engine_names if one in found or not found]

    async def _look(self, run: Run, engine: str) -> AgentError | None:
        """Have the catalogue say what an engine holds, and what killed runs left there taken away; or say why not."""
        try:
            swept = await self._half.sweep(engine)
            found: Sequence[Archive] = await self._half.list(engine)
        except AgentError as error:
            run.say(f"{engine}: {error}")
            return error
        for one in swept.gone:
            run.say(f"taken away: {one}")
        for one in swept.left:
            if self._left.get(one) != run.id:  # what is of no engine stays at each
                run.say(one)
        self._left = dict.fromkeys(swept.left, run.id)
        await self._catalogue.rebuild(engine, found)
        return None

    async def _prune_set(self, name: str, engines: Sequence[str], *, accepted: bool) -> list[str]:
        told = []
        for engine in engines:
            plan = self._plan(await self._catalogue.entries(name, engine), accepted=accepted)
            await self._catalogue.hold(name, engine, plan.held)
            if plan.held:
                told.append(f"nothing of {name} is deleted: {plan.held} (homelab-agent backup prune --accept {name})")
            for archive in plan.delete:
                try:
                    await self._half.forget(engine, archive)
                except AgentError as error:
                    told.append(f"{archive} is not deleted: {error}")
                    continue
                await self._catalogue.deleted(engine, [archive])
                told.append(f"{archive} is deleted")
        return told

    def _plan(self, entries: Sequence[Entry], *, accepted: bool) -> Plan:
        now = self._clock.read().wall
        known = [
            Kept(
                one.id,
                one.at,
                dirty=not one.is_good,
                bytes=one.bytes,
                files=one.files,
                verified=bool(one.verified_ok),
                proven=one.proven_at is not None,
            )
            for one in entries
        ]
        zone = now.astimezone().tzinfo or now.tzinfo
        assert zone is not None  # noqa: S101 - both are aware
        return retention.plan(known, self._settings.keep, now=now, zone=zone, accepted=accepted)


def _read_so_far(run: Run, before: int, whole: int, of: str, done: int, _total: int | None, _what: str) -> None:
    """Be a `Said` of one archive of several: tell how far all are read."""
    run.progress(before + done, whole, "bytes", of)
