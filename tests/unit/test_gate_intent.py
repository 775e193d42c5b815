"""What the operator wants is kept: over restarts, through a disk that fails, and a loss of state is a hold itself."""

from __future__ import annotations

import asyncio
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from homelab_agent.core.state import StateUnavailable
from homelab_agent.gate.intent import AGENT
from tests.clock import MovableClock
from tests.fixtures.disk import Closable
from tests.gate_life import Disk, living, ruin

HOURS = timedelta(hours=1)


async def test_at_a_first_start_nothing_is_held(tmp_path: Path) -> None:
    async with living(tmp_path, MovableClock()) as life:
        assert await life.intent.current() is None
        assert await life.intent.release(who="bob") is None


async def test_a_hold_is_on_disk_before_anyone_is_told_and_outlives_a_kill(tmp_path: Path) -> None:
    clock = MovableClock()
    async with living(tmp_path / "state", clock) as life:
        held = await life.intent.hold(who="ann", why="an upgrade\0", until=clock.read().wall + 2 * HOURS)
        await asyncio.to_thread(shutil.copytree, tmp_path / "state", tmp_path / "killed")
        assert await life.intent.current() == held
    async with living(tmp_path / "killed", clock) as life:
        found = await life.intent.current()
        assert found == held
        assert (found.who, found.why, found.since) == ("ann", "an upgrade", clock.read().wall)


async def test_it_passes_by_itself_and_comes_back_when_the_clock_is_put_right(tmp_path: Path) -> None:
    clock = MovableClock()
    async with living(tmp_path, clock) as life:
        held = await life.intent.hold(who="ann", why="", until=clock.read().wall + HOURS)
        clock.hang(3599)
        assert await life.intent.current() == held
        clock.hang(1)
        assert await life.intent.current() is None
        assert await life.intent.release(who="bob") is None
        held = await life.intent.hold(who="ann", why="", until=clock.read().wall + HOURS)
        clock.step(7200)
        assert await life.intent.current() is None
    async with living(tmp_path, clock) as life:
        assert await life.intent.current() is None
        clock.step(-7200)
        assert await life.intent.current() == held


async def test_the_last_word_counts_and_what_is_released_stays_so(tmp_path: Path) -> None:
    clock = MovableClock()
    async with living(tmp_path, clock) as life:
        await life.intent.hold(who="ann", why="for long", until=None)
        second = await life.intent.hold(who="bob", why="for short", until=clock.read().wall + HOURS)
        assert await life.intent.current() == second
        third, *_ = await asyncio.gather(
            life.intent.hold(who="ann", why="again", until=None), life.intent.current(), life.intent.current()
        )
        assert await life.intent.current() == third
        assert await life.intent.release(who="bob") == third
        assert await life.intent.current() is None
        assert await life.intent.release(who="bob") is None
    async with living(tmp_path, clock) as life:
        assert await life.intent.current() is None


async def test_each_word_is_told_once_with_who_said_it(tmp_path: Path) -> None:
    clock = MovableClock()
    until = clock.read().wall + HOURS
    async with living(tmp_path, clock) as life:
        await life.intent.release(who="bob")
        held_at = clock.read().wall
        await life.intent.hold(who="ann", why="an upgrade", until=until)
        await life.intent.current()
    clock.hang(10)
    async with living(tmp_path, clock) as life:
        await life.intent.current()
        await life.intent.release(who="bob")
        await life.intent.release(who="bob")
        released_at = clock.read().wall
        told = [tuple(row.values.values()) for row in await life.rows("gate_intent")]
    assert told == [
        ("attic", held_at, True, "ann", "an upgrade", until),
        ("attic", released_at, False, "bob", "", None),
    ]


async def test_a_hold_that_comes_while_another_is_released_holds(tmp_path: Path) -> None:
    clock = MovableClock()
    async with living(tmp_path, clock) as life:
        await life.intent.hold(who="ann", why="one", until=None)
        released, held = await asyncio.gather(
            life.intent.release(who="bob"), life.intent.hold(who="bob", why="two", until=None)
        )
        assert released is not None
        assert await life.intent.current() == held
    async with living(tmp_path, clock) as life:
        assert await life.intent.current() == held


async def test_a_hold_that_cannot_be_written_down_holds_all_the_same_and_is_written_later(closable: Closable) -> None:
    clock = MovableClock()
    directory = closable.point
    async with living(directory, clock) as life:
        await life.intent.hold(who="ann", why="", until=None)
    closable.read_only()
    async with living(directory, clock) as life:
        with pytest.raises(StateUnavailable):
            await life.intent.current()
        with pytest.raises(StateUnavailable):
            await life.intent.hold(who="bob", why="the disk is full", until=None)
        with pytest.raises(StateUnavailable):
            await life.intent.release(who="bob")
        closable.read_write()
        found = await life.intent.current()
        assert found is not None
        assert found.who == "bob"
    async with living(directory, clock) as life:
        assert await life.intent.current() == found


async def test_who_holds_is_not_kept_waiting_by_the_disk(tmp_path: Path) -> None:
    clock = MovableClock()
    async with living(tmp_path, clock) as life:
        assert await life.intent.current() is None
        disk = Disk(life)
        disk.goes_on.clear()
        holding = asyncio.ensure_future(life.intent.hold(who="ann", why="now", until=None))
        await asyncio.sleep(0)
        found = await life.intent.current()
        assert found is not None
        assert found.who == "ann"
        assert not holding.done()
        disk.goes_on.set()
        assert await holding == found


async def test_after_lost_state_the_door_is_held_until_it_is_released_once(tmp_path: Path) -> None:
    clock = MovableClock()
    async with living(tmp_path, clock) as life:
        assert await life.intent.current() is None
    for _ in range(2):
        (tmp_path / "state.db").unlink()
        async with living(tmp_path, clock) as life:
            found = await life.intent.current()
            assert found is not None
            assert (found.who, found.until) == (AGENT, None)
            assert found.why.startswith("a hold may have been lost: ")
            assert "state.db is gone" in found.why
            assert "\n" not in found.why
        async with living(tmp_path, clock) as life:
            assert await life.intent.current() == found
            assert await life.intent.release(who="bob") == found
        async with living(tmp_path, clock) as life:
            assert life.state.lost
            assert await life.intent.current() is None


async def test_a_loss_while_the_agent_runs_holds_the_door_too(tmp_path: Path) -> None:
    clock = MovableClock()
    async with living(tmp_path, clock) as life:
        assert await life.intent.current() is None
        await ruin(life.state)
        assert await life.intent.current() is None  # nobody has noticed yet: it was said that nothing was held
        await life.state.write(lambda _: None)
        found = await life.intent.current()
        assert found is not None
        assert found.who == AGENT
        assert "is damaged" in found.why
    async with living(tmp_path, clock) as life:
        assert await life.intent.current() == found


@pytest.mark.parametrize("until", [None, HOURS])
async def test_a_hold_in_force_is_not_lost_with_the_disk_and_one_that_would_pass_gives_way(
    tmp_path: Path, until: timedelta | None
) -> None:
    clock = MovableClock()
    async with living(tmp_path, clock) as life:
        held = await life.intent.hold(who="ann", why="", until=clock.read().wall + until if until else None)
        await ruin(life.state)
        await life.state.write(lambda _: None)
        found = await life.intent.current()
        assert found is not None
        assert (found == held) == (until is None)
        assert found.until is None
    async with living(tmp_path, clock) as life:
        assert await life.intent.current() == found
