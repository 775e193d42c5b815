"""Rounds over engines: what stays for want of Docker is said once by each run, though each engine is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from homelab_agent.backup.asking import RootHalf
from homelab_agent.backup.catalogue import Catalogue
from homelab_agent.backup.point import Archive
from homelab_agent.backup.rounds import Rounds
from homelab_agent.backup.settings import BackupSet, BackupSettings, Repository
from homelab_agent.backup.wire import Swept
from homelab_agent.core.health import Health
from homelab_agent.core.jobs import Run
from homelab_agent.core.spool import Spool
from homelab_agent.core.state import State
from tests.clock import MovableClock
from tests.website import SCHEMAS

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
