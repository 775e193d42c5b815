"""Rounds over engines: what stays for want of Docker is said once by each run, though each engine is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import cast

from prometheus_client import CollectorRegistry

from homelab_agent.backup.asking import RootHalf
from homelab_agent.backup.catalogue import Catalogue
from homelab_agent.backup.overview import Overview
from homelab_agent.backup.point import Archive
from homelab_agent.backup.proven import Proven
from homelab_agent.backup.rounds import Rounds
from homelab_agent.backup.settings import BackupSet, BackupSettings, Repository
from homelab_agent.backup.wire import Done, Swept
from homelab_agent.core.errors import AgentError
from homelab_agent.core.health import Check, Finding, Health
from homelab_agent.core.health import State as Stands
from homelab_agent.core.jobs import Run
from homelab_agent.core.spool import Spool
from homelab_agent.core.state import State
from tests.clock import MovableClock
from tests.website import SCHEMAS

AT = datetime(2026, 11, 24, 1, tzinfo=UTC)
SETTINGS = BackupSettings(
    set=[BackupSet(name="photos", paths=[Path("/p")], engines=["archive", "away"])],
    repository=[Repository(name="away", url="/r", password="file:/x")],
)


class Half:
    """Has engines that hold nothing; what a sweep itself does is shown by tests that do one."""

    async def sweep(self, engine: str) -> Swept:
        return Swept([f"half a copy at {engine}"], ["what a drill has left stays"])

    async def list(self, engine: str) -> list[Archive]:
        assert engine in SETTINGS.engine_names
        return []


@asynccontextmanager
async def nobody_waits(_: frozenset[str]) -> AsyncIterator[None]:
    yield


async def test_what_cannot_be_swept_is_said_once_by_each_run(tmp_path: Path) -> None:
    clock = MovableClock()
    state = await State.open(tmp_path, SCHEMAS, clock=clock)
    spool = Spool(state, clock, host="attic", max_bytes=1 << 24, max_age=3600.0)
    catalogue = Catalogue(state, spool, clock, host="attic")

    async def no_database() -> None:
        return

    rounds = Rounds(SETTINGS, cast("RootHalf", Half()), catalogue, Health(clock), clock, database=no_database)
    said: list[str] = []
    for number in range(2):
        run = Run(f"run {number}", "backup.prune", "command", lambda _: None, said.append, nobody_waits, frozenset())
        await rounds.prune(run)
    each = ["taken away: half a copy at archive", "what a drill has left stays", "taken away: half a copy at away"]
    assert said == [*each, *each]
    await spool.close()
    await state.close()


class Away(AgentError):
    """The engine {engine} does not answer."""

    repair = "plug it in"


class Failing(Half):
    """Engines of which some take nothing."""

    def __init__(self, *failing: str) -> None:
        self.failing = failing

    async def run(self, name: str, engine: str, run: str, _say: object, _on_event: object) -> Done:
        if engine in self.failing:
            raise Away(engine=engine)
        archive = Archive(f"{engine} of {run}", engine, name, AT, "cold", "00", 10, 5, 1)
        return Done(archive)


async def lived(directory: Path, *failing: str, runs: int = 0) -> Finding:
    """Have an agent live that backs up so often, and return what the set's check says then."""
    clock = MovableClock()
    state = await State.open(directory, SCHEMAS, clock=clock)
    spool = Spool(state, clock, host="attic", max_bytes=1 << 24, max_age=3600.0)
    catalogue, health = Catalogue(state, spool, clock, host="attic"), Health(clock)

    async def no_database() -> None:
        return

    rounds = Rounds(SETTINGS, cast("RootHalf", Failing(*failing)), catalogue, health, clock, database=no_database)
    proven = Proven(SETTINGS, catalogue, clock, CollectorRegistry())
    overview = Overview(SETTINGS, catalogue, rounds, clock, proven, show=lambda _: None)
    health.add(Check(f"backup.{one.name}", partial(overview.probe, one.name)) for one in SETTINGS.covered)
    for number in range(runs):
        options = frozenset({"set=photos"})
        run = Run(f"run {number}", "backup.run", "command", lambda _: None, print, nobody_waits, options)
        await rounds.back_up(run)
    finding = (await health.probe("backup.photos")).finding
    [shown] = [one for one in await overview.sets() if one["set"] == "photos"]
    assert bool(shown["trouble"]) is (finding.state is Stands.FAILED)
    await spool.close()
    await state.close()
    return finding


async def test_what_went_wrong_with_a_set_is_known_after_a_restart_until_it_went_well(tmp_path: Path) -> None:
    before = await lived(tmp_path, "away", runs=1)
    assert (before.state, before.detail) == (Stands.FAILED, "The engine away does not answer.")
    assert await lived(tmp_path) == before, "nothing has been tried since"
    both = await lived(tmp_path, "archive", "away", runs=1)
    assert both.about == {"archive", "away"}
    assert "archive" in both.detail
    assert "away" in both.detail
    assert both.repair == "plug it in"
    one = await lived(tmp_path, "archive", runs=1)
    assert one.about == {"archive"}
    assert (await lived(tmp_path, runs=1)).state is not Stands.FAILED
    assert (await lived(tmp_path)).state is not Stands.FAILED
