"""How the copies stand, in words and numbers: for the page, the checks and whoever asks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from homelab_agent.backup.catalogue import Catalogue, Drill, Entry, Trouble
from homelab_agent.backup.facts import Facts
from homelab_agent.backup.proven import Proven
from homelab_agent.backup.rounds import Rounds
from homelab_agent.backup.settings import AGENT_SET, ARCHIVE, BackupSettings
from homelab_agent.core.clock import Clock
from homelab_agent.core.health import Finding

STALE_SECONDS = 36 * 3600.0
"""A copy that is older than a night and a half is overdue."""


class Overview:
    """Implements `routes.Overview`."""

    def __init__(
        self,
        settings: BackupSettings,
        catalogue: Catalogue,
        rounds: Rounds,
        clock: Clock,
        proven: Proven,
        *,
        show: Callable[[Facts], None],
    ) -> None:
        """`show` is given the facts whenever they are looked at."""
        self.facts = Facts()
        """As they were last looked at."""
        self._show = show
        self._settings = settings
        self._catalogue = catalogue
        self._rounds = rounds
        self._clock = clock
        self._proven = proven

    async def sets(self) -> list[Mapping[str, Any]]:
        """Return how each set stands."""
        newest, proofs = await self._catalogue.newest(), await self._catalogue.proofs()
        facts, gone = await self.look(), await self._gone()
        drills = await self._catalogue.drills()
        told: list[Mapping[str, Any]] = []
        for one in self._settings.covered:
            last, proof = newest.get(one.name), proofs.get(one.name)
            drill = max((last for (name, _), last in drills.items() if name == one.name), key=_when, default=None)
            told.append(
                {
                    "set": one.name,
                    "newest_at": last.at if last else None,
                    "verdict": last.verdict if last else "",
                    "bytes": last.bytes if last else None,
                    "stored_bytes": last.stored_bytes if last else None,
                    "verified_at": last.verified_at if last else None,
                    "proven_at": proof.proven_at if proof else None,
                    "drilled": one.name != AGENT_SET,
                    "drill_ok": drill.ok if drill else None,
                    "drill": drill.detail if drill else "",
                    "offsite": one.name in gone,
                    "frozen_ms": facts.frozen_ms.get(one.name, {}),
                    "trouble": _said(await self._rounds.troubles(one.name)),
                }
            )
        return told

    async def look(self) -> Facts:
        """Return the facts as they are now."""
        names = [one.name for one in self._settings.covered]
        newest, frozen_ms = await self._catalogue.newest(), await self._catalogue.frozen_ms()
        gone, since = await self._gone(), self._clock.read().wall - timedelta(days=1)
        self.facts = Facts(
            sets=len(names),
            done=sum(name in newest and newest[name].at >= since for name in names),
            offsite=sum(name in gone for name in names),
            frozen_ms={name: frozen_ms[name] for name in names if name in frozen_ms},
        )
        self._show(self.facts)
        return self.facts

    async def _gone(self) -> Collection[str]:
        """Return the sets that have a copy away from this house."""
        away = {one.name for one in self._settings.repository if one.offsite}
        return {one.set_name for one in await self._catalogue.entries() if one.engine in away}

    async def archives(self, set_name: str) -> list[Mapping[str, Any]]:
        """Return the archives of a set, of all for "", newest first."""
        return [_told(one) for one in reversed(await self._catalogue.entries(set_name))]

    async def prune_plan(self) -> list[Mapping[str, Any]]:
        """Return what is kept and why, and what would be deleted."""
        told: list[Mapping[str, Any]] = []
        for name, engine, entries, plan in await self._rounds.plans():
            for one in entries:
                fate, why = ("kept", ", ".join(plan.keep[one.id])) if one.id in plan.keep else ("deleted", "not needed")
                why = f"{why} ({plan.held})" if plan.held and "held" in plan.keep.get(one.id, ()) else why
                told.append({"set": name, "engine": engine, "id": one.id, "at": one.at, "fate": fate, "why": why})
        return told

    async def probe(self, name: str) -> Finding:
        """Say how a set stands: whether it went wrong last, is overdue, or was never read back."""
        last = (await self._catalogue.newest()).get(name)
        await self.look()
        if troubles := await self._rounds.troubles(name):
            repair = next((one.repair for one in troubles if one.repair), f"homelab-agent backup run {name}")
            return Finding.failed(_said(troubles), repair, about=[one.engine for one in troubles])
        if last is None:
            return Finding.degraded("there is no copy yet", f"homelab-agent backup run {name}")
        age = (self._clock.read().wall - last.at).total_seconds()
        said = f"{last.verdict}, {last.files} files, {last.at:%Y-%m-%d %H:%M} UTC"
        if age > STALE_SECONDS:
            return Finding.degraded(
                f"the newest copy is {age / 3600:.0f} hours old", f"homelab-agent backup run {name}"
            )
        return await self._proven.finding(name) or Finding.ok(f"{said}{self._proven.said(name)}")

    async def resumed(self) -> Finding:
        """Say whether a container may stand still for a run that is no more."""
        if (error := self._rounds.stuck) is not None:
            return Finding.failed(f"containers may stand still for a backup: {error}", error.repair)
        return Finding.ok("no container stands still for a run that is no more")

    async def place(self) -> Finding:
        """Say whether the copies are in another place than what they are of."""
        repositories = {one.name for one in self._settings.repository}
        alone = [one.name for one in self._settings.covered if not repositories & set(one.engines)]
        if alone:
            said = f"not a backup yet: {', '.join(alone)} have copies on this host alone ({self._settings.directory})"
            return Finding.degraded(said, f"a [[backup.repository]] elsewhere, beside {ARCHIVE} in the set's `engines`")
        return Finding.ok("every set has a copy in a repository")


def _said(troubles: Sequence[Trouble]) -> str:
    return "; ".join(dict.fromkeys(one.what for one in troubles))


def _when(drill: Drill) -> datetime:
    return drill.at


def _told(one: Entry) -> Mapping[str, Any]:
    return {
        "id": one.id,
        "engine": one.engine,
        "set": one.set_name,
        "at": one.at,
        "verdict": one.verdict,
        "sha256": one.sha256,
        "bytes": one.bytes,
        "stored_bytes": one.stored_bytes,
        "files": one.files,
        "run": one.run_id,
        "verified_at": one.verified_at,
        "verified_ok": one.verified_ok,
        "proven_at": one.proven_at,
    }
