"""Drills by turns: each run proves the copy whose last drill is the longest ago, or those that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from homelab_agent.backup.asking import RootHalf
from homelab_agent.backup.catalogue import Catalogue, Entry
from homelab_agent.backup.proven import Proven
from homelab_agent.backup.settings import AGENT_SET
from homelab_agent.core import journal
from homelab_agent.core.clock import Clock
from homelab_agent.core.errors import AgentError, describe
from homelab_agent.core.health import Health
from homelab_agent.core.jobs import Outcome, Run, of_options
from homelab_agent.core.privilege import AWAY

_NEVER = datetime.min.replace(tzinfo=UTC)

log = journal.logger("backup")


class Drills:
    """The job's function."""

    def __init__(self, half: RootHalf, catalogue: Catalogue, proven: Proven, health: Health, clock: Clock) -> None:
        self._half = half
        self._catalogue = catalogue
        self._proven = proven
        self._health = health
        self._clock = clock

    async def drill(self, run: Run) -> Outcome:
        """Drill the copy whose turn it is; the newest of `set` at each engine, `archive`, or with `all` all of them."""
        asked = of_options(run.options)
        await self._look(run)
        chosen = await self._chosen(asked.get("set", ""), asked.get("archive", ""), every="all" in asked)
        if asked.get("set") == AGENT_SET or any(one.set_name == AGENT_SET for one in chosen):
            said = "what the agent keeps of itself has no containers to start, and is proven by being read back"
            return Outcome(ok=False, detail=said, repair=f"homelab-agent backup verify {AGENT_SET}")
        if not chosen:
            return self._nothing(asked.get("set", ""), asked.get("archive", ""))
        told, failed, repair = [], False, ""
        for number, entry in enumerate(chosen):
            if run.cancelled.is_set():
                told.append("it was asked to stop")
                failed = True
                break
            run.progress(number, len(chosen), "copies", entry.id)
            ok, said, mends = await self._one(run, entry)
            told.append(said)
            failed, repair = failed or not ok, repair or mends
        return Outcome(ok=not failed, detail="; ".join(told), repair=repair)

    async def _chosen(self, name: str, archive: str, *, every: bool) -> Sequence[Entry]:
        """Return the copies, those first whose set and engine were drilled longest ago.

        One that fails has had its turn, too: else it would keep all others from theirs.
        """
        if archive:
            return [one for one in await self._catalogue.entries() if one.id == archive]
        drills = await self._catalogue.drills()
        found = []
        for turn in self._proven.turns:
            good = [one for one in await self._catalogue.entries(*turn) if one.is_good]
            if good and name in {"", turn[0]}:
                found.append((drills[turn].at if turn in drills else _NEVER, good[-1]))
        ordered = [entry for _, entry in sorted(found, key=lambda one: one[0])]
        return ordered if every or name else ordered[:1]

    def _nothing(self, name: str, archive: str) -> Outcome:
        """Say why there is nothing to be drilled, which is no fault where nothing was asked for."""
        if archive:
            return Outcome(ok=False, detail=f"there is no copy {archive}", repair="homelab-agent backup list")
        if name and name not in {one for one, _ in self._proven.turns}:
            repair = f"homelab-agent restore {name} --to DIRECTORY"
            return Outcome(ok=False, detail=f"{name} is not drilled: it has no containers", repair=repair)
        detail = f"there is no copy of {name} yet" if name else "there is no copy yet"
        return Outcome(ok=not name, detail=detail, repair=f"homelab-agent backup run {name}".rstrip())

    async def _one(self, run: Run, entry: Entry) -> tuple[bool, str, str]:
        """Drill one; return whether it is proven, what was seen, and what mends what is wrong."""

        def say(done: int, total: int | None, what: str) -> None:
            run.progress(done, total, "bytes" if total is None else "steps", f"{entry.id}: {what}")

        began = self._clock.read().monotonic
        try:
            drilled = await self._half.drill(entry.engine, entry.id, say)
        except AWAY as error:
            return False, f"{entry.id} was not drilled: {describe(error)}", error.repair
        except AgentError as error:
            ok, detail, repair = False, describe(error), error.repair
            seconds = self._clock.read().monotonic - began
        else:
            ok, detail, repair, seconds = drilled.proven, drilled.detail, drilled.repair, drilled.seconds
            for one in drilled.shown:
                run.say(f"{entry.id}: {one}")
        await self._catalogue.drilled(entry, ok=ok, seconds=seconds, detail=detail, repair=repair)
        await self._proven.refresh()
        await self._health.probe(f"backup.{entry.set_name}")
        log.info("backup.drilled", set=entry.set_name, engine=entry.engine, archive=entry.id, ok=ok, seconds=seconds)
        return ok, f"{entry.id} is {'' if ok else 'not '}proven restorable: {detail}", repair

    async def _look(self, run: Run) -> None:
        """Have the catalogue say what the engines hold."""
        for engine in dict.fromkeys(engine for _, engine in self._proven.turns):
            try:
                await self._catalogue.rebuild(engine, await self._half.list(engine))
            except AgentError as error:
                run.say(f"{engine}: {error}")
