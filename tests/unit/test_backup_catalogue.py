"""The catalogue of archives in a real state.db: what was proven here is known, what engines hold is the truth."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from homelab_agent.backup.catalogue import Catalogue, RunEnd
from homelab_agent.backup.point import Archive
from homelab_agent.core.spool import Row, Spool
from homelab_agent.core.state import State
from tests.clock import MovableClock
from tests.website import SCHEMAS

AT = datetime(2026, 11, 24, 1, tzinfo=UTC)
FIRST = Archive("aa", "offsite", "paperless", AT, "crash", "aa", 100, 50, 3)
SECOND = replace(FIRST, id="bb", sha256="bb", at=AT + timedelta(days=1))
RUN = RunEnd("paperless", "offsite", "ok", AT, bytes=100, frozen_ms={"db": 812})


@pytest.fixture
async def life(tmp_path: Path) -> AsyncIterator[tuple[Catalogue, Spool, MovableClock]]:
    clock = MovableClock()
    state = await State.open(tmp_path, SCHEMAS, clock=clock)
    spool = Spool(state, clock, host="attic", max_bytes=1 << 24, max_age=3600.0)
    yield Catalogue(state, spool, clock, host="attic"), spool, clock
    await spool.close()
    await state.close()


Life = tuple[Catalogue, Spool, MovableClock]


async def rows(spool: Spool) -> list[Row]:
    batch = await spool.take()
    if batch is None:
        return []
    await spool.failed(batch)
    return list(batch.rows)


async def test_a_run_and_its_archive_are_told_together(life: Life) -> None:
    catalogue, spool, _ = life
    await catalogue.end_run(RUN, FIRST)
    (entry,) = await catalogue.entries("paperless", "offsite")
    assert (entry.verified_ok, entry.proven_at) == (True, None)
    assert [row.table for row in await rows(spool)] == ["backup_archive", "backup_run"]
    assert (await rows(spool))[1].values["frozen_ms"] == {"db": 812}


async def test_what_an_engine_holds_is_the_truth(life: Life) -> None:
    catalogue, spool, _ = life
    await catalogue.end_run(RUN, FIRST)
    await catalogue.rebuild("offsite", [SECOND])
    (entry,) = await catalogue.entries()
    assert (entry.id, entry.verified_at, entry.verified_ok) == ("bb", None, None)
    await catalogue.rebuild("offsite", [FIRST, SECOND])
    first, _ = await catalogue.entries()
    assert first.verified_ok, "what was verified here is known still"
    await catalogue.rebuild("archive", [])
    assert len(await catalogue.entries()) == 2
    assert [row.values["id"] for row in await rows(spool) if row.table == "backup_archive"] == ["aa", "bb"]


async def test_a_drill_that_failed_is_no_proof(life: Life) -> None:
    catalogue, spool, clock = life
    await catalogue.end_run(RUN, FIRST)
    (entry,) = await catalogue.entries()
    await catalogue.drilled(entry, ok=False, seconds=3.0, detail="pg_amcheck")
    assert await catalogue.proofs() == {"paperless": None}
    await catalogue.drilled(entry, ok=True, seconds=41.0)
    proof = (await catalogue.proofs())["paperless"]
    assert proof is not None
    assert (proof.proven_at, proof.proven_seconds) == (clock.read().wall, 41.0)
    assert [row.values["ok"] for row in await rows(spool) if row.table == "backup_drill"] == [False, True]


async def test_the_newest_is_one_that_counts(life: Life) -> None:
    catalogue, _, _ = life
    await catalogue.end_run(RUN, FIRST)
    await catalogue.end_run(RUN, replace(SECOND, verdict="dirty"))
    assert (await catalogue.newest())["paperless"].id == "aa"
    await catalogue.verified("offsite", "aa", good=False)
    assert await catalogue.newest() == {}
    await catalogue.deleted("offsite", ["aa"])
    assert [entry.id for entry in await catalogue.entries()] == ["bb"]


async def test_what_is_held_is_held_until_it_is_let_go(life: Life) -> None:
    catalogue, _, _ = life
    await catalogue.hold("paperless", "offsite", "the newest has 10 bytes")
    assert await catalogue.held() == {("paperless", "offsite"): "the newest has 10 bytes"}
    await catalogue.hold("paperless", "offsite", "")
    assert await catalogue.held() == {}


async def test_how_long_each_container_stood_still_is_of_its_sets_last_good_run(life: Life) -> None:
    catalogue, _, _ = life
    await catalogue.end_run(RUN, FIRST)
    await catalogue.end_run(replace(RUN, set_name="shop", frozen_ms={"web": 5, "db": 7}), replace(FIRST, id="cc"))
    await catalogue.end_run(replace(RUN, state="failed", frozen_ms={}))
    assert await catalogue.frozen_ms() == {"paperless": {"db": 812}, "shop": {"db": 7, "web": 5}}
    await catalogue.end_run(replace(RUN, frozen_ms={"app": 3}), SECOND)
    assert (await catalogue.frozen_ms())["paperless"] == {"app": 3}
