"""Drills by turns: which copy is next, what comes of one that fails, and when a proof is too long ago."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from homelab_agent.backup.asking import RootHalf
from homelab_agent.backup.catalogue import Catalogue
from homelab_agent.backup.drilled import COPY, Drilled, Shown, drilled, of_drilled
from homelab_agent.backup.drills import Drills
from homelab_agent.backup.point import Archive, Said
from homelab_agent.backup.proven import Proven
from homelab_agent.backup.settings import BackupSet, BackupSettings, Repository
from homelab_agent.core.errors import AgentError
from homelab_agent.core.health import Check, Finding, Health
from homelab_agent.core.jobs import Outcome, Run
from homelab_agent.core.privilege import PrivilegedUnavailable
from homelab_agent.core.spool import Spool
from homelab_agent.core.state import State
from tests.clock import MovableClock
from tests.website import SCHEMAS

GOOD = (Shown(COPY, "good", "3 files"), Shown("db", "good", "lives"))
BAD = (Shown(COPY, "good", "3 files"), Shown("db", "bad", "is broken", "mend it"))
SETTINGS = BackupSettings(
    set=[
        BackupSet(name="photos", paths=[Path("/p")], engines=["archive", "away"]),
        BackupSet(name="wiki", paths=[Path("/w")]),
    ],
    repository=[Repository(name="away", url="/r", password="file:/x")],
)


class Half:
    """Answers as it is told to; what a drill itself does is shown by tests that do one."""

    def __init__(self, clock: MovableClock) -> None:
        self.clock = clock
        self.archives: dict[str, list[Archive]] = {"archive": [], "away": []}
        self.shown: dict[str, Any] = {}
        self.asked: list[str] = []

    def add(self, set_name: str, engine: str, id_: str, **more: Any) -> None:
        archive = Archive(id_, engine, set_name, self.clock.read().wall, "crash", id_, 1, 1, 1)
        self.archives[engine].append(replace(archive, **more))

    async def list(self, engine: str) -> list[Archive]:
        return self.archives[engine]

    async def drill(self, engine: str, archive: str, say: Said) -> Drilled:
        assert archive in [one.id for one in self.archives[engine]]
        say(1, 2, "is started")
        self.asked.append(archive)
        shown = self.shown.get(archive, GOOD)
        if isinstance(shown, AgentError):
            raise shown
        return Drilled(archive, shown, 41.0)


@asynccontextmanager
async def nobody_waits(_: frozenset[str]) -> AsyncIterator[None]:
    yield


class House:
    """All but the root half is real."""

    def __init__(self, catalogue: Catalogue, clock: MovableClock) -> None:
        self.clock = clock
        self.half = Half(clock)
        self.registry = CollectorRegistry()
        self.proven = Proven(SETTINGS, catalogue, clock, self.registry)
        self.health = Health(clock)
        self.health.add([Check(f"backup.{one.name}", partial(self.probe, one.name)) for one in SETTINGS.set])
        half = cast("RootHalf", self.half)
        self.drills = Drills(half, catalogue, self.proven, self.health, clock)
        for name, engine in self.proven.turns:
            self.half.add(name, engine, f"{name}/{engine}")

    async def probe(self, name: str) -> Finding:
        return await self.proven.finding(name) or Finding.ok("well")

    async def drill(self, *options: str) -> Outcome:
        self.clock.step(60)
        nothing = lambda _: None  # noqa: E731
        return await self.drills.drill(
            Run("run", "backup.drill", "command", nothing, nothing, nobody_waits, frozenset(options))
        )


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    clock = MovableClock()
    state = await State.open(tmp_path, SCHEMAS, clock=clock)
    spool = Spool(state, clock, host="attic", max_bytes=1 << 24, max_age=3600.0)
    yield House(Catalogue(state, spool, clock, host="attic"), clock)
    await spool.close()
    await state.close()


async def test_each_copy_has_its_turn_also_where_one_always_fails(house: House) -> None:
    house.half.shown["photos/away"] = BAD
    for _ in range(4):
        await house.drill()
    assert house.half.asked == ["photos/archive", "photos/away", "wiki/archive", "photos/archive"]
    await house.drill("set=photos")
    assert house.half.asked[4:] == ["photos/away", "photos/archive"]
    await house.drill("all=yes")
    assert sorted(house.half.asked[6:]) == ["photos/archive", "photos/away", "wiki/archive"]


async def test_the_newest_good_one_is_drilled_or_the_one_that_is_named(house: House) -> None:
    house.clock.step(3600)
    house.half.add("wiki", "archive", "wiki/newer")
    house.clock.step(3600)
    house.half.add("wiki", "archive", "wiki/dirty", verdict="dirty")
    await house.drill("set=wiki")
    await house.drill("archive=wiki/archive")
    assert house.half.asked == ["wiki/newer", "wiki/archive"]
    outcome = await house.drill("archive=wiki/gone")
    assert (outcome.ok, outcome.repair) == (False, "homelab-agent backup list")


async def test_what_failed_is_told_until_a_drill_goes_well(house: House) -> None:
    house.half.shown["wiki/archive"] = BAD
    outcome = await house.drill("set=wiki")
    assert (outcome.ok, outcome.repair) == (False, "mend it")
    finding = house.health.picture()[1].finding
    assert (finding.state, finding.repair) == ("degraded", "mend it")
    assert finding.detail == "the copy wiki/archive at archive is not proven restorable: db: is broken; copy: 3 files"
    del house.half.shown["wiki/archive"]
    assert (await house.drill("set=wiki")).ok
    assert house.health.picture()[1].finding.state == "ok"
    told = generate_latest(house.registry).decode()
    assert 'homelab_agent_backup_drill_seconds{engine="archive",set="wiki"} 41.0' in told


async def test_that_nobody_could_drill_is_no_fault_of_the_copy(house: House) -> None:
    house.half.shown["wiki/archive"] = PrivilegedUnavailable(cause="it is away")
    assert not (await house.drill("set=wiki")).ok
    assert house.health.picture()[1].finding.state == "ok"


async def test_a_proof_may_be_as_old_as_the_turns_take(house: House) -> None:
    await house.drill("all=yes")
    assert house.proven.oldest.startswith("last proven restorable (oldest): ")
    house.clock.step(timedelta(weeks=15).total_seconds() - 3600)
    assert await house.proven.finding("wiki") is None
    house.clock.step(7200)
    finding = await house.proven.finding("wiki")
    assert finding is not None
    assert (finding.state, finding.repair) == ("degraded", "homelab-agent backup drill wiki")


@pytest.mark.parametrize(
    ("states", "proven"),
    [("", True), ("good", True), ("good open", True), ("open", False), ("good bad", False), ("bad", False)],
)
def test_what_came_to_life_is_the_proof(states: str, *, proven: bool) -> None:
    shown = [Shown(COPY, "good", "3 files"), *(Shown("one", state, "") for state in states.split())]  # type: ignore[arg-type]
    found = Drilled("id", shown, 1.0)
    assert found.proven is proven
    assert drilled(of_drilled(found)) == found
