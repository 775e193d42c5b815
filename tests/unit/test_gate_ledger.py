"""Every opening is on record from before the door opens, ends once, and is told once; in a real state.db."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homelab_agent.core.door import Visits
from homelab_agent.core.state import StateUnavailable
from homelab_agent.gate.ledger import BEAT_SECONDS, KEPT, KILLED
from tests.clock import MovableClock, until
from tests.fixtures.disk import Closable
from tests.gate_life import NOBODY, SOME, Disk, Life, living, ruin


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def life(tmp_path: Path, clock: MovableClock) -> AsyncIterator[Life]:
    async with living(tmp_path, clock) as begun:
        yield begun


async def test_an_opening_says_from_when_to_when_why_and_who_came(life: Life, clock: MovableClock) -> None:
    began = clock.read().wall
    begun = await life.ledger.begin("ready at 3 looks in a row")
    assert await life.ledger.newest(9) == [begun]
    assert await life.rows() == []
    clock.hang(90)
    await life.ledger.end("not ready: state", SOME, checks=["state", "web"])
    ended = clock.read().wall
    [told] = await life.rows()
    assert told.key == ("host", "id")
    assert told.values == {
        "host": "attic",
        "id": begun.id,
        "opened_at": began,
        "opened_why": "ready at 3 looks in a row",
        "closed_at": ended,
        "closed_why": "not ready: state",
        "checks": "state, web",
        "seconds": 90.0,
        "requests": 12,
        "sources": 3,
        "sent_bytes": 4096,
    }
    [kept] = await life.ledger.newest(9)
    assert (kept.closed_at, kept.seconds, kept.requests) == (ended, 90.0, 12)
    assert life.ledger.present is None


async def test_an_opening_ends_when_the_door_is_shut_however_long_it_takes_to_say_so(
    life: Life, clock: MovableClock
) -> None:
    life.ledger.shut()
    await life.ledger.begin("ready")
    clock.hang(10)
    life.ledger.shut()
    shut = clock.read().wall
    clock.hang(5)
    life.ledger.shut()
    await life.ledger.beat(SOME)
    await life.ledger.end("held", SOME)
    [one] = await life.ledger.newest(1)
    assert (one.closed_at, one.seconds, one.requests) == (shut, 10, 12)
    assert life.counted() == 10
    await life.ledger.begin("ready")
    clock.hang(7)
    await life.ledger.beat(NOBODY)
    assert life.counted() == 17


async def test_an_opening_that_was_given_up_while_the_disk_took_its_time_is_none(life: Life) -> None:
    disk = Disk(life)
    disk.swallows = 0.0
    beginning = asyncio.create_task(life.ledger.begin("ready"))
    await until(lambda: disk.swallowed, "it is on disk")
    beginning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await beginning
    disk.swallows = None
    assert (life.ledger.present, await life.ledger.newest(9)) == (None, [])
    assert life.ledger.owes
    await life.ledger.settle()
    begun = await life.ledger.begin("ready again")
    assert await life.ledger.newest(9) == [begun]
    assert await life.rows() == []


async def test_seconds_are_counted_while_it_is_open_by_a_clock_that_nobody_sets(
    life: Life, clock: MovableClock
) -> None:
    clock.hang(1000)
    assert life.counted() == 0
    await life.ledger.beat(NOBODY)
    await life.ledger.begin("ready")
    clock.hang(10)
    await life.ledger.beat(NOBODY)
    assert life.counted() == 10
    clock.step(-5000)
    clock.suspend(300)
    clock.hang(5)
    await life.ledger.end("held", NOBODY)
    assert life.counted() == 15
    [one] = await life.ledger.newest(1)
    assert one.seconds == 15
    clock.hang(100)
    await life.ledger.end("held", NOBODY)
    await life.ledger.begin("ready")
    await life.ledger.beat(NOBODY)
    assert life.counted() == 15


async def test_while_it_is_open_who_asks_hears_how_it_stands_and_the_disk_is_told_once_a_minute(
    life: Life, clock: MovableClock
) -> None:
    begun = await life.ledger.begin("ready")
    on_disk = "SELECT seconds FROM gate_exposure"
    for seconds, written in ((59, 0.0), (1, BEAT_SECONDS), (30, BEAT_SECONDS), (30, 2 * BEAT_SECONDS)):
        clock.hang(seconds)
        await life.ledger.beat(SOME)
        [now] = await life.ledger.newest(1)
        assert (now.id, now.requests, now.closed_at) == (begun.id, 12, None)
        assert now.seen_at == clock.read().wall
        assert await life.state.read(lambda connection: connection.execute(on_disk).fetchone()) == (written,)


async def test_one_door_is_open_once(life: Life) -> None:
    await life.ledger.begin("ready")
    with pytest.raises(ValueError, match="the door has been open since"):
        await life.ledger.begin("ready")
    assert len(await life.ledger.newest(9)) == 1


async def test_what_a_killed_agent_left_open_ended_when_it_was_last_known_to_be_open(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with living(tmp_path / "state", clock) as life:
        begun = await life.ledger.begin("ready")
        clock.hang(61)
        await life.ledger.beat(SOME)
        seen = clock.read().wall
        clock.hang(40)
        await life.ledger.beat(Visits(99, 9, 9))
        await asyncio.to_thread(shutil.copytree, tmp_path / "state", tmp_path / "killed")
    clock.hang(5000)
    async with living(tmp_path / "killed", clock) as life:
        [left] = await life.ledger.newest(9)
        assert left.closed_at is None
        for _ in range(2):
            await life.ledger.settle()
        [row] = await life.rows()
        assert (row.values["id"], row.values["closed_at"], row.values["closed_why"]) == (begun.id, seen, KILLED)
        assert (row.values["seconds"], row.values["requests"], row.values["checks"]) == (61, 12, "")
        second = await life.ledger.begin("ready again")
        assert [one.id for one in await life.ledger.newest(9)] == [second.id, begun.id]
        assert life.counted() == 0


async def test_no_door_opens_that_cannot_be_recorded(closable: Closable, clock: MovableClock) -> None:
    closable.read_only()
    async with living(closable.point, clock) as life:
        with pytest.raises(StateUnavailable):
            await life.ledger.begin("ready")
        assert life.ledger.present is None
        closable.read_write()
        begun = await life.ledger.begin("ready")
        assert await life.ledger.newest(9) == [begun]


async def test_an_end_that_the_disk_does_not_take_is_written_before_the_next_opening(
    life: Life, clock: MovableClock
) -> None:
    disk = Disk(life)
    first = await life.ledger.begin("ready")
    clock.hang(70)
    disk.refuses = True
    with pytest.raises(StateUnavailable):
        await life.ledger.beat(SOME)
    with pytest.raises(StateUnavailable):
        await life.ledger.end("not ready: the disk is full", SOME, checks=["state"])
    assert life.ledger.present is None
    shut = clock.read().wall
    clock.hang(1000)
    with pytest.raises(StateUnavailable):
        await life.ledger.begin("ready")
    [one] = await life.ledger.newest(9)
    assert (one.closed_at, one.closed_why) == (shut, "not ready: the disk is full")
    disk.refuses = False
    second = await life.ledger.begin("ready")
    [row] = await life.rows()
    assert (row.values["id"], row.values["closed_at"], row.values["seconds"]) == (first.id, shut, 70)
    assert [found.id for found in await life.ledger.newest(9)] == [second.id, first.id]


async def test_an_opening_outlives_the_file_that_it_was_written_to(life: Life, clock: MovableClock) -> None:
    begun = await life.ledger.begin("ready")
    await ruin(life.state)
    clock.hang(BEAT_SECONDS)
    await life.ledger.beat(SOME)
    assert "is damaged" in life.state.lost
    assert [one.id for one in await life.ledger.newest(9)] == [begun.id]
    await life.ledger.end("state was lost", SOME)
    [row] = await life.rows()
    assert (row.values["id"], row.values["opened_why"], row.values["seconds"]) == (begun.id, "ready", BEAT_SECONDS)


async def test_old_openings_go(life: Life) -> None:
    for number in range(KEPT + 5):
        await life.ledger.begin(f"{number}")
        await life.ledger.end("shut", NOBODY)
    found = await life.ledger.newest(10_000)
    assert [one.opened_why for one in found] == [f"{number}" for number in range(KEPT + 4, 4, -1)]


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(["begin", "beat", "end", "refuse", "accept", "settle", "kill", "stop"]), max_size=25))
async def test_whatever_happens_each_opening_ends_once_and_is_told_once(
    tmp_path_factory: pytest.TempPathFactory, events: list[str]
) -> None:
    clock, directory = MovableClock(), tmp_path_factory.mktemp("ledger")
    begun: set[str] = set()
    number = 0
    while events or not number:
        number += 1
        async with living(directory / str(number), clock) as life:
            disk = Disk(life)
            events = await _live(life, disk, clock, events, begun)
            disk.refuses = False
            known = {one.id: one for one in await life.ledger.newest(1000)}
            assert set(known) == begun
            await asyncio.to_thread(shutil.copytree, directory / str(number), directory / str(number + 1))
    async with living(directory / str(number + 1), clock) as life:
        await life.ledger.settle()
        told = await life.rows()
        assert sorted(str(row.values["id"]) for row in told) == sorted(begun)
        kept = {one.id: one for one in await life.ledger.newest(1000)}
        for row in told:
            one = kept[str(row.values["id"])]
            assert (row.values["closed_at"], row.values["seconds"]) == (one.closed_at, one.seconds)


async def _live(life: Life, disk: Disk, clock: MovableClock, events: list[str], begun: set[str]) -> list[str]:
    """Let events happen until the agent is killed or stopped; return those that are left."""
    for number, event in enumerate(events, 1):
        clock.hang(random.Random(number).choice([1.0, 61.0]))
        try:
            match event:
                case "begin" if life.ledger.present is None:
                    begun.add((await life.ledger.begin("ready")).id)
                case "beat":
                    await life.ledger.beat(SOME)
                case "end":
                    await life.ledger.end("shut", SOME)
                case "settle":
                    await life.ledger.settle()
                case "refuse" | "accept":
                    disk.refuses = event == "refuse"
                case "stop":
                    await life.ledger.end("the agent stops", SOME)
                    return events[number:]
                case "kill":
                    return events[number:]
        except StateUnavailable:
            assert disk.refuses
    return []
