"""The spool: in order, across memory, disk and restarts; bounded; no promise lost, nothing doubled."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homelab_agent.core import health
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.spool import Batch, Row, Spool
from homelab_agent.core.spool import table as spooltable
from homelab_agent.core.state import State, StateUnavailable
from tests.clock import MovableClock, until
from tests.fixtures.disk import Closable
from tests.neighbours.disk import Disks
from tests.write_ahead import commits

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
WEEK = 7 * 86400.0


def sample(number: int, *, rows: int = 1, text: str = "") -> list[Row]:
    """Return the rows of sample `number`: ten seconds after the one before."""
    at = START + timedelta(seconds=10 * number)
    return [
        Row("cpu_sample", ("id", "time"), {"id": entity, "time": at, "number": number, "text": text}, at)
        for entity in range(rows)
    ]


def run(number: int) -> list[Row]:
    """Return a row that is promised."""
    return [Row("job_run", ("id",), {"id": f"run {number}", "number": number}, START)]


def numbers(batch: Batch | None) -> list[object]:
    assert batch is not None
    return [row.values["number"] for row in batch.rows]


class House:
    """A spool on a state of its own, with a clock that the test moves."""

    def __init__(self, directory: Path, *, max_bytes: int = 128 << 20, max_age: float = WEEK) -> None:
        self.directory = directory
        self.clock = MovableClock(START)
        self.bounds = (max_bytes, max_age)

    async def open(self) -> House:
        self.state = await State.open(self.directory, [], clock=self.clock)
        self.spool = self.new_spool()
        return self

    def new_spool(self) -> Spool:
        max_bytes, max_age = self.bounds
        return Spool(self.state, self.clock, host="attic", max_bytes=max_bytes, max_age=max_age)

    async def close(self) -> None:
        await self.spool.close()
        await self.state.close()

    async def reopen(self) -> None:
        await self.close()
        await self.open()

    async def drain(self, max_rows: int = 5000) -> list[Row]:
        """Ship everything, batch by batch."""
        rows: list[Row] = []
        while (batch := await self.spool.take(max_rows)) is not None:
            rows += batch.rows
            await self.spool.done(batch)
        return rows

    async def on_disk(self) -> int:
        return await self.state.read(lambda c: int(c.execute("SELECT coalesce(sum(rows), 0) FROM spool").fetchone()[0]))

    async def finding(self) -> health.Finding:
        (check,) = self.spool.checks()
        assert check.probe is not None
        return await check.probe()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    opened = await House(tmp_path / "state").open()
    yield opened
    await opened.close()


# Order.


async def test_rows_of_one_put_travel_together_and_all_in_order(house: House) -> None:
    for number in range(10):
        await house.spool.put(sample(number, rows=3))
    batch = await house.spool.take(max_rows=7)
    assert numbers(batch) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert batch is not None
    assert [len(parcel.rows) for parcel in batch.parcels] == [3, 3, 3]
    await house.spool.done(batch)
    assert [row.values["number"] for row in await house.drain(7)] == [n for n in range(3, 10) for _ in range(3)]
    assert await house.spool.take() is None


async def test_a_batch_that_is_not_done_comes_again(house: House) -> None:
    await house.spool.put(sample(1))
    await house.spool.put(run(2), promise=True)
    first = await house.spool.take()
    assert numbers(first) == numbers(await house.spool.take()) == [1, 2]
    assert first is not None
    await house.spool.failed(first)
    assert await house.on_disk() == 2
    assert numbers(await house.spool.take()) == [1, 2]


async def test_what_a_promise_says_may_be_known_only_in_its_own_transaction(house: House) -> None:
    def count(connection: sqlite3.Connection) -> list[Row]:
        connection.execute("CREATE TABLE IF NOT EXISTS counted (id INTEGER PRIMARY KEY)")
        number = connection.execute("INSERT INTO counted DEFAULT VALUES RETURNING id").fetchone()[0]
        return run(number) if number % 2 else []

    def fail(connection: sqlite3.Connection) -> list[Row]:
        connection.execute("INSERT INTO counted DEFAULT VALUES")
        raise ZeroDivisionError

    await asyncio.gather(*(house.spool.promise(count) for _ in range(6)))
    with pytest.raises(ZeroDivisionError):
        await house.spool.promise(fail)
    assert {row.values["number"] for row in await house.drain()} == {1, 3, 5}
    assert await house.state.read(lambda c: c.execute("SELECT count(*) FROM counted").fetchone()) == (6,)


async def test_a_promise_of_no_rows_leaves_nothing_to_wait_for(house: House) -> None:
    await house.spool.promise(lambda _: [])
    assert await house.spool.take() is None
    waiting = asyncio.ensure_future(house.spool.wait())
    await house.spool.promise(lambda _: [])
    assert not waiting.done()
    await house.spool.promise(lambda _: run(1))
    await asyncio.wait_for(waiting, 10)


async def test_order_holds_over_memory_disk_failure_and_restart(house: House) -> None:
    await house.spool.put(sample(0))
    await house.spool.put(run(1), promise=True)
    await house.spool.put(sample(2))
    batch = await house.spool.take(1)
    assert numbers(batch) == [0]
    await house.spool.put(sample(3))
    assert batch is not None
    await house.spool.failed(batch)
    await house.spool.put(sample(4))
    await house.spool.put(run(5), promise=True)
    await house.reopen()
    await house.spool.put(sample(6))
    assert [row.values["number"] for row in await house.drain(2)] == list(range(7))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["sample", "promise", "ship", "fail", "minute", "restart"]), max_size=30))
def test_in_whatever_turn_things_happen_each_row_arrives_once_and_in_order(events: list[str]) -> None:
    async def scenario(directory: Path) -> None:
        house = await House(directory).open()
        put, arrived = 0, []
        for event in events:
            if event in {"sample", "promise"}:
                rows = sample(put) if event == "sample" else run(put)
                await house.spool.put(rows, promise=event == "promise")
                put += 1
            elif event in {"ship", "fail"} and (batch := await house.spool.take(2)) is not None:
                if event == "ship":
                    arrived += numbers(batch)
                    await house.spool.done(batch)
                else:
                    await house.spool.failed(batch)
            elif event == "minute":
                await house.clock.advance(60)
                await house.spool.tend()
            elif event == "restart":
                await house.reopen()
        arrived += [row.values["number"] for row in await house.drain(2)]
        status = house.spool.status()
        assert arrived == list(range(put))
        assert (status.rows_memory, status.rows_disk, status.bytes_disk, status.oldest) == (0, 0, 0, None)
        assert status.waited is None
        assert await house.on_disk() == 0
        await house.close()

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(scenario(Path(name)))


async def test_a_clock_set_back_does_not_change_the_order(house: House) -> None:
    await house.spool.put(sample(0))
    house.clock.step(-86400)
    await house.spool.put(sample(1))
    await house.reopen()
    house.clock.step(-86400)
    await house.spool.put(run(2), promise=True)
    await house.spool.put(sample(3))
    assert [row.values["number"] for row in await house.drain()] == [0, 1, 2, 3]


@pytest.mark.parametrize("sees", ["nothing of it", "all of it"])
async def test_what_is_put_while_the_disk_is_read_comes_in_order(
    house: House, monkeypatch: pytest.MonkeyPatch, sees: str
) -> None:
    reading, may_end, first = threading.Event(), threading.Event(), spooltable.first

    def read_slowly(*arguments: Any) -> Any:
        found = first(*arguments)
        reading.set()
        assert may_end.wait(10)
        return first(*arguments) if sees == "all of it" else found

    await house.spool.put(run(0), promise=True)
    monkeypatch.setattr(spooltable, "first", read_slowly)
    taking = asyncio.create_task(house.spool.take())
    await until(reading.is_set, "the disk is read")
    for number in (1, 3):
        await house.spool.put(run(number), promise=True)
        await house.spool.put(sample(number + 1))
    may_end.set()
    batch = await taking
    arrived = numbers(batch)
    assert batch is not None
    await house.spool.done(batch)
    assert arrived + [row.values["number"] for row in await house.drain()] == [0, 1, 2, 3, 4]


async def test_promises_put_at_once_share_commits_and_all_arrive(house: House) -> None:
    await house.spool.put(run(0), promise=True)
    before = commits(house.directory)
    await asyncio.gather(*(house.spool.put(run(number), promise=True) for number in range(1, 300)))
    assert commits(house.directory) - before <= 30
    assert [row.values["number"] for row in await house.drain()] == list(range(300))


async def test_waiting_ends_when_something_comes_and_not_before(house: House) -> None:
    waiter = asyncio.create_task(house.spool.wait())
    await asyncio.wait([waiter], timeout=0.05)
    assert not waiter.done()
    await house.spool.put(sample(0))
    async with asyncio.timeout(5):
        await waiter
    await house.reopen()
    async with asyncio.timeout(5):
        await house.spool.wait()  # what an earlier run left
    await house.drain()
    waiter = asyncio.create_task(house.spool.wait())
    await asyncio.wait([waiter], timeout=0.05)
    assert not waiter.done()
    waiter.cancel()


async def test_a_put_whose_caller_is_cancelled_is_counted_all_the_same(house: House) -> None:
    await house.spool.put(run(0), promise=True)
    putting = asyncio.create_task(house.spool.put(run(1), promise=True))
    await asyncio.sleep(0)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    await house.reopen()
    assert house.spool.status().rows_disk == 0  # not counted yet
    assert len(await house.drain()) == 2
    assert house.spool.status().rows_disk == 0


# The SD card's life.


async def test_while_postgresql_takes_everything_nothing_is_written(house: House) -> None:
    await house.spool.take()
    before = commits(house.directory), house.state.bytes_written
    for number in range(100):
        await house.spool.put(sample(number, rows=15))
        assert len(await house.drain()) == 15
        await house.clock.advance(10)
        await house.spool.tend()
    assert (commits(house.directory), house.state.bytes_written) == before


async def test_a_sample_goes_to_disk_within_a_minute_many_in_one_commit(house: House) -> None:
    tending, before = asyncio.create_task(house.spool.run()), commits(house.directory)
    await house.spool.put(sample(0))
    for number in range(1, 6):
        await house.clock.advance(9)
        await house.spool.put(sample(number))
    assert await house.on_disk() == 0
    await house.clock.advance(15)
    await until(lambda: house.spool.status().rows_disk, "the samples are on disk")
    assert await house.on_disk() == 6
    assert commits(house.directory) - before == 1
    tending.cancel()


# Refused and damaged rows.


async def test_a_sample_waits_in_memory_as_long_as_is_asked_for_and_a_promise_never(house: House) -> None:
    house.spool.expect(300.0)
    await house.spool.put(sample(1))
    await house.spool.put(run(2), promise=True)
    assert house.spool.status().rows_disk == 1
    await house.clock.advance(310)
    await house.spool.tend()
    assert house.spool.status().rows_memory == 1
    await house.clock.advance(10)
    await house.spool.tend()
    assert (house.spool.status().rows_memory, house.spool.status().rows_disk) == (0, 2)
    house.spool.expect(1.0)
    await house.spool.put(sample(3))
    await house.clock.advance(50)
    await house.spool.tend()
    assert house.spool.status().rows_memory == 0


async def test_a_refused_row_is_written_down_with_its_reason_and_counted(house: House) -> None:
    for number in range(3):
        await house.spool.put(sample(number))
    batch = await house.spool.take()
    assert batch is not None
    await house.spool.done(batch, [(batch.rows[1], "23514: value out of range")])
    assert await house.spool.take() is None
    assert house.spool.status().rejected == 1
    await house.reopen()
    await house.spool.take()
    assert house.spool.status().rejected == 1
    (found,) = await house.state.read(spooltable.list_rejected)
    assert (found.table, found.reason, found.at) == (
        "cpu_sample",
        "23514: value out of range",
        house.clock.read().wall,
    )
    assert '"number": 1' in str(found.content)
    said = await house.finding()
    assert said.state is health.State.DEGRADED
    assert "PostgreSQL refused 1 rows" in said.detail


async def test_a_refused_promise_is_in_one_place_or_the_other_also_on_a_disk_that_fills(house: House) -> None:
    long = "small when packed, large when written down " * 10_000
    await house.spool.put([Row("job_run", ("id",), {"id": "one", "detail": long}, START)], promise=True)
    await house.state.write(lambda c: c.execute(f"PRAGMA max_page_count = {_pages(c) + 10}").fetchall())
    batch = await house.spool.take()
    assert batch is not None
    await house.spool.done(batch, [(batch.rows[0], "no")])
    assert await house.spool.take() is None
    assert await house.on_disk() == 1, "it left before it was written down"
    await house.state.write(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchall())
    again = house.new_spool()  # as after a crash, which forgets what was refused
    assert await again.take() == batch
    await again.done(batch, [(batch.rows[0], "no")])
    assert (again.status().rejected, await house.on_disk()) == (1, 0)


def _pages(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA page_count").fetchone()[0])


async def test_refused_rows_are_kept_thirty_days_and_ten_thousand_at_most(house: House) -> None:
    await house.spool.put(sample(0, rows=10_050))
    batch = await house.spool.take()
    assert batch is not None
    await house.spool.done(batch, [(row, "no") for row in batch.rows])
    assert house.spool.status().rejected == 10_000
    house.clock.step(31 * 86400)
    await house.clock.advance(3601)
    await house.spool.tend()
    assert house.spool.status().rejected == 0
    assert (await house.finding()).state is health.State.OK


async def test_a_parcel_damaged_on_disk_is_set_aside_and_the_others_arrive(house: House) -> None:
    for number in range(5):
        await house.spool.put(run(number), promise=True)

    def scribble(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE spool SET body = x'00112233' WHERE id = (SELECT id FROM spool LIMIT 1 OFFSET 2)")

    await house.state.write(scribble)
    assert [row.values["number"] for row in await house.drain()] == [0, 1, 3, 4]
    (found,) = await house.state.read(spooltable.list_rejected)
    assert found.content == b"\x00\x11\x22\x33"
    assert "cannot be read back" in found.reason
    assert house.spool.status().rejected == 1


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.sampled_from([1, 16, 512, 4096]), st.randoms(use_true_random=False))
def test_wherever_the_file_is_damaged_what_is_whole_arrives_and_life_goes_on(
    place: float, length: int, noise: random.Random
) -> None:
    async def scenario(directory: Path) -> None:
        house = await House(directory).open()
        for number in range(40):
            await house.spool.put(run(number), promise=True)
        await house.close()
        content = bytearray((directory / "state.db").read_bytes())
        start = int(place * len(content))
        content[start : start + length] = noise.randbytes(min(length, len(content) - start))
        (directory / "state.db").write_bytes(content)
        await house.open()
        await house.spool.put(run(40), promise=True)
        arrived = [int(str(row.values["number"])) for row in await house.drain(7)]
        assert arrived == sorted(set(arrived))
        assert arrived[-1] == 40
        assert len(arrived) == 41 or house.state.lost or house.spool.status().rejected
        await house.close()

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(scenario(Path(name)))


async def test_a_sample_with_an_unfit_value_is_written_down_and_harms_no_other(house: House) -> None:
    await house.spool.put(sample(0))
    await house.spool.put([Row("cpu_sample", ("id",), {"id": 1, "value": b"bytes"}, START)])  # type: ignore[dict-item]
    await house.spool.put(sample(2))
    await house.reopen()
    assert [row.values["number"] for row in await house.drain()] == [0, 2]
    assert house.spool.status().rejected == 1


async def test_a_promise_with_an_unfit_value_is_refused_at_once(house: House) -> None:
    with pytest.raises(TypeError):
        await house.spool.put([Row("run", ("id",), {"id": {1}}, START)], promise=True)  # type: ignore[dict-item]
    assert await house.spool.take() is None


async def test_how_long_rows_wait_is_told_by_a_clock_that_nobody_sets(house: House) -> None:
    """And is the same wherever they wait; after a restart it is counted from that on."""
    for step in (7200, -7200):
        await house.spool.put(sample(0))
        house.clock.step(step)
        assert house.spool.status().waited == 0
        assert (await house.finding()).state is health.State.OK
        await house.clock.advance(300)
        await house.spool.put(sample(1))
        await house.spool.tend()
        assert house.spool.status().rows_memory == 0, "they are on disk"
        assert house.spool.status().waited == 300
        await house.spool.put(sample(2))
        await house.clock.advance(301)
        assert house.spool.status().waited == 601
        found = await house.finding()
        assert found.state is health.State.DEGRADED
        assert ", for 10 minutes now" in found.detail
        await house.drain()
        assert house.spool.status().waited is None
    await house.spool.put(run(3), promise=True)
    await house.clock.advance(50)
    assert house.spool.status().waited == 50
    await house.reopen()
    await house.spool.tend()
    await house.clock.advance(20)
    assert house.spool.status().waited == 20


# Bounds.


def gaps_of(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row.table == "gap"]


def check_gaps(rows: list[Row], put: int) -> None:
    """What is missing is what the gaps say, and no two gaps have the same key."""
    gaps = gaps_of(rows)
    arrived = sum(row.table == "cpu_sample" for row in rows)
    assert sum(int(str(gap.values["rows"])) for gap in gaps) == put - arrived
    keys = [tuple(gap.values[name] for name in gap.key) for gap in gaps]
    assert len(set(keys)) == len(keys)
    assert {gap.values["host"] for gap in gaps} <= {"attic"}


async def test_a_full_spool_thins_the_oldest_and_says_so(tmp_path: Path) -> None:
    house = await House(tmp_path / "state", max_bytes=1 << 20).open()
    noise = random.Random(3)
    for number in range(600):
        await house.spool.put(sample(number, text=noise.randbytes(1500).hex()))
        if number % 50 == 0:
            await house.spool.put(run(number), promise=True)
        await house.clock.advance(10)
        if number % 6 == 0:
            await house.spool.tend()
    await house.spool.tend()
    status = house.spool.status()
    assert status.bytes_disk <= 1 << 20
    assert 0 < status.thinned < 600
    found = await house.finding()
    assert found.state is health.State.DEGRADED
    assert f"{status.thinned} rows of samples were thinned" in found.detail
    rows = await house.drain()
    assert sum(row.table == "job_run" for row in rows) == 12
    check_gaps(rows, 600)
    samples = [int(str(row.values["number"])) for row in rows if row.table == "cpu_sample"]
    assert samples == sorted(samples)
    assert samples[-50:] == list(range(550, 600)), "the newest were thinned"
    assert any(number < 60 for number in samples), "the oldest hour is gone whole"
    await house.close()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 8), st.integers(0, 3000)), min_size=1, max_size=60),
    st.integers(20_000, 80_000),
    st.sampled_from(["works", "fails"]),
)
def test_the_bound_holds_and_no_promise_goes(puts: list[tuple[bool, int, int]], max_bytes: int, disk: str) -> None:
    disk_works = disk == "works"
    noise = random.Random(4)

    async def scenario(directory: Path) -> None:
        if not disk_works:
            directory = directory / "file" / "in the way"
            directory.parent.write_text("no directory can be here")
        house = await House(directory, max_bytes=max_bytes).open()
        promised, put = [], 0
        for number, (promise, rows, size) in enumerate(puts):
            if promise and disk_works:
                await house.spool.put(run(number), promise=True)
                promised.append(number)
            else:
                await house.spool.put(sample(number, rows=rows, text=noise.randbytes(size).hex()))
                put += rows
        await house.clock.advance(60)
        await house.spool.tend()
        observations = sum(waybill.size for waybill in house.spool._memory.waybills() if not waybill.promise)
        if disk_works:
            assert house.spool.status().rows_memory == 0
            found = house.spool._disk.found
            assert found.observations.size <= max(max_bytes - found.promises.size, max_bytes // 8) + 4096
        assert observations <= max_bytes
        rows_back = await house.drain(50)
        assert [row.values["number"] for row in rows_back if row.table == "job_run"] == promised
        check_gaps(rows_back, put)
        order = [int(str(row.values["number"])) for row in rows_back if row.table != "gap"]
        assert order == sorted(order)
        await house.close()

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(scenario(Path(name)))


async def test_what_is_older_than_its_bound_is_thinned_hour_by_hour_and_then_gone(tmp_path: Path) -> None:
    house = await House(tmp_path / "state", max_age=86400.0).open()
    for number in range(100):
        await house.spool.put(sample(number))
    await house.spool.put(run(100), promise=True)
    await house.clock.advance(3601)
    await house.spool.tend()
    assert house.spool.status().thinned == 0
    house.clock.step(86400)
    left = []
    for _ in range(9):
        await house.clock.advance(3601)
        await house.spool.tend()
        left.append(100 - house.spool.status().thinned)
    assert left[:4] == [50, 25, 12, 6]
    assert left[-1] == 0
    rows = await house.drain()
    assert sum(row.table == "job_run" for row in rows) == 1
    check_gaps(rows, 100)
    await house.close()


async def test_a_batch_under_way_is_not_thinned(tmp_path: Path) -> None:
    house = await House(tmp_path / "state", max_bytes=100_000).open()
    noise = random.Random(5)
    for number in range(60):
        await house.spool.put(sample(number, text=noise.randbytes(1500).hex()))
    batch = await house.spool.take(10)
    await house.clock.advance(60)
    await house.spool.tend()
    assert numbers(batch) == list(range(10))
    assert batch is not None
    await house.spool.done(batch)
    rows = await house.drain()
    assert not {row.values["number"] for row in rows if row.table == "cpu_sample"} & set(range(10))
    check_gaps([*batch.rows, *rows], 60)
    await house.close()


# A disk that does not take it.


async def test_on_a_full_disk_samples_wait_in_memory_promises_are_refused_and_all_recovers(disk: Disks) -> None:
    small = disk(megabytes=1)
    house = await House(small.point / "state").open()
    await house.spool.put(run(0), promise=True)
    small.fill()
    noise = random.Random(6)
    for number in range(1, 200):
        await house.spool.put(sample(number, text=noise.randbytes(2000).hex()))
    await house.clock.advance(60)
    await house.spool.tend()
    status = house.spool.status()
    assert status.rows_memory > 0
    assert status.rows_memory + status.rows_disk == 200
    large = [Row("job_run", ("id",), {"id": "large", "text": noise.randbytes(200_000).hex()}, START)]
    with pytest.raises(StateUnavailable) as caught:
        await house.spool.put(large, promise=True)
    assert "df -h" in caught.value.repair
    found = await house.finding()
    assert found.state is health.State.DEGRADED
    assert "wait in memory" in found.detail
    assert "df -h" in found.repair
    small.free()
    await house.spool.tend()
    assert (house.spool.status().rows_memory, house.spool.status().rows_disk) == (0, 200)
    assert (await house.finding()).state is health.State.OK
    await house.reopen()
    assert [row.values["number"] for row in await house.drain(30)] == list(range(200))
    await house.close()


async def test_what_is_shipped_from_a_full_disk_is_not_shipped_twice(disk: Disks) -> None:
    small = disk(megabytes=1)
    house = await House(small.point / "state").open()
    noise = random.Random(7)
    for number in range(100):
        await house.spool.put(sample(number, text=noise.randbytes(1000).hex()))
    await house.spool.tend()
    batch = await house.spool.take(50)
    assert batch is not None
    await house.spool.failed(batch)
    small.fill()
    rows = await house.drain(10)
    assert [row.values["number"] for row in rows] == list(range(100))
    assert await house.spool.take() is None
    small.free()
    await house.spool.tend()
    assert await house.on_disk() == 0
    await house.close()


async def test_a_read_only_directory_ships_from_memory_and_from_what_can_be_read(closable: Closable) -> None:
    house = await House(closable.point).open()
    for number in range(5):
        await house.spool.put(run(number), promise=True)
    await house.close()
    closable.read_only()
    await house.open()
    await house.spool.put(sample(5))
    batch = await house.spool.take(3)
    assert numbers(batch) == [0, 1, 2]
    assert batch is not None
    await house.spool.done(batch)
    assert [row.values["number"] for row in await house.drain()] == [3, 4, 5]
    with pytest.raises(StateUnavailable):
        await house.spool.put(run(6), promise=True)
    await house.spool.put(sample(7))
    await house.clock.advance(60)
    await house.spool.tend()
    closable.read_write()
    await house.spool.tend()
    assert await house.on_disk() == 1
    await house.spool.put(run(8), promise=True)
    assert [row.values["number"] for row in await house.drain()] == [7, 8]
    await house.close()


async def test_a_first_start_without_a_writable_disk_still_ships(closable: Closable) -> None:
    closable.read_only()
    house = await House(closable.point).open()
    await house.spool.put(sample(0))
    batch = await house.spool.take()
    assert numbers(batch) == [0]
    assert batch is not None
    await house.spool.failed(batch)
    await house.spool.put(sample(1))
    closable.read_write()
    await house.spool.put(run(2), promise=True)
    await house.clock.advance(60)
    await house.spool.tend()
    assert await house.on_disk() == 3
    assert [row.values["number"] for row in await house.drain()] == [0, 1, 2]
    await house.close()


# Killed.

CHILD = """
import asyncio, itertools, sys
from datetime import UTC, datetime
from pathlib import Path
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.spool import Row, Spool
from homelab_agent.core.state import State

async def promise(spool, number):
    row = Row("job_run", ("id",), {"id": number}, datetime.now(UTC))
    await spool.put([row], promise=True)
    print(number, flush=True)

async def main(directory, first):
    state = await State.open(directory, [], clock=SystemClock())
    spool = Spool(state, SystemClock(), host="attic", max_bytes=1 << 27, max_age=604800.0)
    for start in itertools.count(first, 20):
        await spool.put([Row("cpu_sample", ("id",), {"id": start}, datetime.now(UTC))])
        await asyncio.gather(*(promise(spool, number) for number in range(start, start + 20)))
        if start % 100 == 0 and (batch := await spool.take(10)) is not None:
            await spool.failed(batch)

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


REFUSED = """
import asyncio, os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from homelab_agent.core.clock import SystemClock
from homelab_agent.core.spool import Row, Spool, table
from homelab_agent.core.state import State

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

async def main(directory):
    state = await State.open(directory, [], clock=SystemClock())
    spool = Spool(state, SystemClock(), host="attic", max_bytes=1 << 27, max_age=604800.0)
    await spool.put([Row("job_run", ("id",), {"id": 1}, datetime.now(UTC))], promise=True)
    batch = await spool.take()
    table.reject = die
    await spool.done(batch, [(batch.rows[0], "no")])

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_killed_between_leaving_and_being_written_down_a_refused_promise_is_still_there(tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", REFUSED, tmp_path)
    assert await child.wait() == -signal.SIGKILL
    house = await House(tmp_path).open()
    assert [row.values["id"] for row in await house.drain()] == [1]
    await house.close()


async def test_killed_at_any_moment_no_promise_is_lost_and_none_doubled(tmp_path: Path) -> None:
    moments = random.Random(20261124)
    acknowledged: set[int] = set()
    first = 0
    for _ in range(10):
        said = await asyncio.to_thread(_promises_until_killed, tmp_path, first, moments.randrange(1, 400))
        acknowledged |= said
        first = max(acknowledged, default=0) + 1000
    state = await State.open(tmp_path, [], clock=SystemClock())
    spool = Spool(state, SystemClock(), host="attic", max_bytes=1 << 27, max_age=WEEK)
    found: list[int] = []
    samples: list[int] = []
    while (batch := await spool.take()) is not None:
        found += (int(str(row.values["id"])) for row in batch.rows if row.table == "job_run")
        samples += (int(str(row.values["id"])) for row in batch.rows if row.table == "cpu_sample")
        await spool.done(batch)
    assert state.lost == ""
    assert len(acknowledged) >= 10
    assert acknowledged <= set(found)
    assert len(set(found)) == len(found)
    assert len(set(samples)) == len(samples)
    assert found == sorted(found)
    await spool.close()
    await state.close()


def _promises_until_killed(directory: Path, first: int, count: int) -> set[int]:
    """Let a child promise until it has said `count` of them and something more; return what it said."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, directory, str(first)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    said = [child.stdout.readline() for _ in range(count)]
    child.send_signal(signal.SIGKILL)
    said += child.stdout.readlines()
    child.wait(10)
    child.stdout.close()
    return {int(line) for line in said if line.endswith("\n")}
