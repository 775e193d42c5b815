"""What is remembered of deployments: what ran does not run again, what is deployed is known; in a real state.db."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from homelab_agent.core.clock import Clock
from homelab_agent.core.spool import Row, Spool
from homelab_agent.core.state import State
from homelab_agent.gitops.moves import KEPT, Moves
from tests import payloads
from tests.clock import MovableClock
from tests.website import SCHEMAS

A, B, C = (payloads.sha(name) for name in "abc")


@dataclass(frozen=True, slots=True)
class Life:
    state: State
    spool: Spool
    moves: Moves

    async def rows(self, table: str) -> list[Row]:
        batch = await self.spool.take(100_000)
        if batch is None:
            return []
        await self.spool.failed(batch)
        return [row for row in batch.rows if row.table == table]


@asynccontextmanager
async def living(directory: Path, clock: Clock) -> AsyncIterator[Life]:
    state = await State.open(directory, SCHEMAS, clock=clock)
    spool = Spool(state, clock, host="attic", max_bytes=1 << 24, max_age=3600.0)
    yield Life(state, spool, Moves(state, spool, clock, host="attic"))
    await spool.close()
    await state.close()


@pytest.fixture
async def life(tmp_path: Path) -> AsyncIterator[Life]:
    async with living(tmp_path, MovableClock()) as begun:
        yield begun


async def test_the_last_good_move_says_what_is_deployed(life: Life) -> None:
    moves = life.moves
    assert await moves.deployed("homelab") is None
    first = await moves.begin("homelab", "", A, "0193-run")
    assert await moves.deployed("homelab") is None
    await moves.end(first, "ok")
    second = await moves.begin("homelab", A, B)
    await moves.end(second, "failed", "the action web failed")
    deployed = await moves.deployed("homelab")
    assert deployed is not None
    assert (deployed.to_sha, deployed.run_id) == (A, "0193-run")
    back = await moves.begin("homelab", B, A)
    await moves.end(back, "ok", bad_sha=B)
    assert [(move.from_sha, move.to_sha, move.state) for move in await moves.newest("homelab", 9)] == [
        (B, A, "ok"),
        (A, B, "failed"),
        ("", A, "ok"),
    ]
    assert await moves.deployed("another") is None


async def test_a_move_and_its_actions_are_told_when_they_end_and_once(life: Life) -> None:
    move = await life.moves.begin("homelab", A, B)
    assert await life.moves.begin_action(move, 1, "web")
    assert await life.rows("gitops_action") == await life.rows("gitops_move") == []
    await life.moves.end_action(move, 1, "ok", "done")
    await life.moves.end_action(move, 1, "failed", "later")
    await life.moves.end(move, "ok", "deployed")
    await life.moves.end(move, "failed", "later")
    (action,), (told,) = await life.rows("gitops_action"), await life.rows("gitops_move")
    assert action.key == ("host", "move_id", "position")
    assert (action.values["host"], action.values["name"], action.values["state"]) == ("attic", "web", "ok")
    assert told.key == ("host", "id")
    assert (told.values["from_sha"], told.values["to_sha"], told.values["state"]) == (A, B, "ok")
    assert (told.values["detail"], told.values["id"]) == ("deployed", move.id)


async def test_after_a_kill_what_ended_is_not_begun_again_and_what_was_cut_short_may_be(tmp_path: Path) -> None:
    clock = MovableClock()
    async with living(tmp_path, clock) as life:
        move = await life.moves.begin("homelab", A, B)
        await life.moves.begin_action(move, 1, "first")
        await life.moves.end_action(move, 1, "ok")
        await life.moves.begin_action(move, 2, "second")
    async with living(tmp_path, clock) as life:
        (left,) = await life.moves.unfinished()
        assert left == move
        assert [(one.position, one.state) for one in await life.moves.actions(left)] == [(1, "ok"), (2, "started")]
        assert not await life.moves.begin_action(left, 1, "first")
        assert await life.moves.begin_action(left, 2, "second")
        await life.moves.end(left, "interrupted", "the power went")
        assert await life.moves.unfinished() == []
        assert [one.state for one in await life.moves.actions(left)] == ["ok", "interrupted"]
        assert not await life.moves.begin_action(left, 2, "second")
        assert [row.values["state"] for row in await life.rows("gitops_action")] == ["ok", "interrupted"]


async def test_which_way_a_move_goes_is_remembered_and_forward_is_what_an_earlier_release_began(tmp_path: Path) -> None:
    clock = MovableClock()
    async with living(tmp_path, clock) as life:
        back = await life.moves.begin("homelab", B, A, going_back="the page does not answer")
    async with living(tmp_path, clock) as life:
        assert await life.moves.unfinished() == [back]
        await life.moves.end(back, "ok")
        assert [(move.going_back, move.state) for move in await life.moves.newest("homelab", 1)] == [
            ("the page does not answer", "ok")
        ]
        await life.state.write(lambda connection: connection.execute("DROP TABLE gitops_back").close())
    async with living(tmp_path, clock) as life:
        assert [move.going_back for move in await life.moves.newest("homelab", 1)] == [""]


async def test_a_bad_commit_is_remembered_until_it_is_forgiven(life: Life) -> None:
    move = await life.moves.begin("homelab", A, B)
    await life.moves.end(move, "rolled_back", "the page does not answer", bad_sha=B)
    await life.moves.end(await life.moves.begin("other", A, C), "rolled_back", "no", bad_sha=C)
    assert await life.moves.bad("homelab") == {B: "the page does not answer"}
    await life.moves.forgive("homelab", C)
    assert await life.moves.bad("homelab") == {B: "the page does not answer"}
    await life.moves.forgive("homelab", B)
    assert await life.moves.bad("homelab") == {}
    assert await life.moves.bad("other") == {C: "no"}


async def test_old_moves_go_and_what_is_deployed_or_unfinished_stays(life: Life) -> None:
    unfinished = await life.moves.begin("homelab", "", A)
    good = await life.moves.begin("homelab", "", B)
    await life.moves.begin_action(good, 1, "web")
    await life.moves.end(good, "ok")
    other = await life.moves.begin("other", "", C)
    await life.moves.end(other, "failed")
    for _ in range(KEPT + 10):
        await life.moves.end(await life.moves.begin("homelab", B, C), "failed")
    kept = await life.moves.newest("homelab", 10_000)
    assert KEPT <= len(kept) <= KEPT + 3
    deployed = await life.moves.deployed("homelab")
    assert deployed is not None
    assert deployed.id == good.id
    assert len(await life.moves.actions(good)) == 1
    assert [move.id for move in await life.moves.unfinished()] == [unfinished.id]
    assert [move.id for move in await life.moves.newest("other", 9)] == [other.id]
