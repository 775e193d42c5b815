"""The main job: every due sample is in the spool once, under a time of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from homelab_agent.core.spool import Row, Spool
from homelab_agent.core.state import State
from homelab_agent.metrics import sampler as sampler_module
from homelab_agent.metrics.collection import Collection
from homelab_agent.metrics.collectors.agent import Agent
from homelab_agent.metrics.entity import KNOWN_MAX, Entities
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.latest import Latest
from homelab_agent.metrics.recent import Recent
from homelab_agent.metrics.sample import Families
from homelab_agent.metrics.sampler import Destination, Sampler
from homelab_agent.metrics.settings import MetricsSettings
from tests.clock import MovableClock, until
from tests.database import NoDatabase
from tests.neighbours.mount import Mount

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SCHEMA = Path(sampler_module.__file__).parent / "schema/state.sql"
CORE = Path(sampler_module.__file__).parents[1] / "core/schema"


@dataclass
class Bench:
    """A sampler that runs on a clock of the test's, with a real state and spool."""

    clock: MovableClock
    sampler: Sampler
    latest: Latest
    spool: Spool
    database: NoDatabase
    task: asyncio.Task[None]

    async def stop(self) -> None:
        """Stop the sampler, as the supervisor does."""
        self.task.cancel()
        await asyncio.wait([self.task])

    async def pass_time(self, seconds: float) -> None:
        """Let time pass interval by interval, and each sample be taken."""
        while seconds > 0:
            expected = self.latest.samples + 1
            await self.clock.advance(min(seconds, 10))
            seconds -= 10
            await self._settled(expected)

    async def _settled(self, samples: int) -> None:
        await until(lambda: self.latest.samples == samples and self.clock.sleepers, "the sample and the next wait")

    async def rows(self, table: str) -> Sequence[Row]:
        """Return what waits for PostgreSQL in one table."""
        batch = await self.spool.take(100_000)
        return [] if batch is None else [row for row in batch.rows if row.table == table]


@asynccontextmanager
async def bench(directory: Path, clock: MovableClock, settings: MetricsSettings | None = None) -> AsyncIterator[Bench]:
    state = await State.open(directory, [*sorted(CORE.glob("*.sql")), SCHEMA], clock=clock)
    spool = Spool(state, clock, host="here", max_bytes=2**24, max_age=86400)
    host = Host("here", monotonic=lambda: clock.read().monotonic)
    collection = Collection(host, settings or MetricsSettings())
    latest = Latest()
    database = NoDatabase()
    sampler = Sampler(clock, collection, Destination("here", spool, state, database), latest, Recent())
    task = asyncio.create_task(sampler.run())
    await until(lambda: clock.sleepers, "the sampler to wait for its first tick")
    try:
        yield Bench(clock, sampler, latest, spool, database, task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await spool.close()
        await state.close()


async def test_every_family_is_in_the_spool_with_its_entities_promised(tmp_path: Path) -> None:
    async with bench(tmp_path, MovableClock(NOON)) as at:
        await at.pass_time(30)
        entities = await at.rows("entity")
        assert {str(row.values["family"]) for row in entities} >= {
            "cpu",
            "cpu_core",
            "memory",
            "load",
            "agent",
        }
        assert len({row.values["id"] for row in entities}) == len(entities)  # each once
        known = {row.values["id"] for row in entities}
        cpu = await at.rows("cpu_sample")
        assert [row.at for row in cpu] == [NOON + timedelta(seconds=10 * n) for n in (1, 2, 3)]
        assert {row.values["entity_id"] for row in cpu} <= known
        assert [row.values["reset"] for row in cpu] == [False] * 3
        ticks = await at.rows("tick")
        assert [row.values["skipped"] for row in ticks] == [0, 0, 0]
        assert dict(ticks[0].values["collectors"])["cpu"] >= 0  # type: ignore[arg-type]


async def test_a_postgresql_that_comes_back_is_told_again_what_ids_mean(tmp_path: Path) -> None:
    """It may be an older dump that was put back; rows whose entity it lacks are in no view and in no rollup."""
    async with bench(tmp_path, MovableClock(NOON)) as at:
        announced = []
        for is_up in (True, True, False, False, True, True):
            at.database.round_trip_seconds = 0.001 if is_up else None
            await at.pass_time(10)
            cpu = next(row.values["entity_id"] for row in await at.rows("cpu_sample"))
            announced.append(sum(row.values["id"] == cpu for row in await at.rows("entity")))
        assert announced == [1, 1, 1, 1, 2, 2]
        await at.pass_time(sampler_module.ANNOUNCE_AGAIN_SECONDS)
        assert sum(row.values["id"] == cpu for row in await at.rows("entity")) == 3, "one may be put back unnoticed"


async def test_slow_families_are_read_every_minute(tmp_path: Path) -> None:
    async with bench(tmp_path, MovableClock(NOON + timedelta(seconds=25))) as at:
        await at.pass_time(5)
        await at.pass_time(90)
        assert len(await at.rows("cpu_sample")) == 10
        times = sorted({row.at for row in await at.rows("filesystem_sample")})
        assert times == [
            NOON + timedelta(seconds=30),
            NOON + timedelta(seconds=60),
            NOON + timedelta(seconds=120),
        ]


@pytest.mark.parametrize("step", [-3600, 3600])
async def test_a_clock_set_by_an_hour_loses_and_overwrites_no_sample(tmp_path: Path, step: int) -> None:
    async with bench(tmp_path, MovableClock(NOON)) as at:
        await at.pass_time(60)
        at.clock.step(step)
        await at.pass_time(60)
        at.clock.step(-step)
        await at.pass_time(60)
        ticks = await at.rows("tick")
        assert len(ticks) == 18
        assert len({row.at for row in ticks}) == 18
        assert [row.values["step_s"] for row in ticks if row.values["step_s"]] == [step, -step]
        moved = [row for row in ticks if row.values["moved_ms"]]
        assert moved == (ticks[6:12] if step < 0 else ticks[12:])
        assert {row.at.microsecond for row in moved} == {1000}


async def test_after_a_kill_the_clock_may_have_been_set_back_and_no_time_comes_twice(tmp_path: Path) -> None:
    clock = MovableClock(NOON)
    async with bench(tmp_path, clock) as at:
        await at.pass_time(30)
    clock.step(-20)
    async with bench(tmp_path, clock) as at:
        await at.pass_time(30)
        ticks = await at.rows("tick")
        assert len({row.at for row in ticks}) == 6
        assert [row.values["moved_ms"] for row in ticks] == [0, 0, 0, 1, 1, 0]


async def test_samples_from_before_the_clock_was_set_wait_and_are_stamped_from_boot_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernel says of its clock cannot be changed without setting this host's; so the answer is put in."""
    answers = [False, False, True]
    collect = Agent.collect

    def unset_at_first(agent: Agent) -> Families:
        found = collect(agent)
        agent.clock_synchronised = answers.pop(0)
        return found

    monkeypatch.setattr(Agent, "collect", unset_at_first)
    clock = MovableClock(datetime(1970, 1, 1, 0, 0, 20, tzinfo=UTC))
    clock._boot = 20.0
    async with bench(tmp_path, clock) as at:
        await at.pass_time(20)
        assert await at.rows("tick") == []
        clock.step((NOON - datetime(1970, 1, 1, 0, 0, 40, tzinfo=UTC)).total_seconds())
        await at.pass_time(10)
        ticks = await at.rows("tick")
        assert [row.at for row in ticks] == [NOON - timedelta(seconds=10), NOON, NOON + timedelta(seconds=10)]
        assert [row.values["clock_synchronised"] for row in ticks] == [False, False, True]


async def test_a_clock_that_is_set_while_a_sample_is_taken_stamps_it_by_the_new_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = MovableClock(NOON - timedelta(days=23))
    clock._boot = 20.0
    collect = Agent.collect

    def is_set_meanwhile(agent: Agent) -> Families:
        found = collect(agent)
        if clock.read().wall < NOON - timedelta(days=1):
            clock.step(23 * 86400)
        agent.clock_synchronised = True
        return found

    monkeypatch.setattr(Agent, "collect", is_set_meanwhile)
    async with bench(tmp_path, clock) as at:
        await at.pass_time(20)
        assert [row.at for row in await at.rows("tick")] == [NOON + timedelta(seconds=seconds) for seconds in (10, 20)]


@pytest.mark.parametrize("step", [-3600, 3600])
async def test_a_clock_that_was_set_makes_no_sample_one_that_postgresql_did_not_take(tmp_path: Path, step: int) -> None:
    async with bench(tmp_path, MovableClock(NOON)) as at:
        await at.pass_time(20)
        at.clock.step(step)
        await at.pass_time(30)
        assert [row.values["spooled"] for row in await at.rows("tick")] == [False] * 5
        await at.pass_time(40)
        assert [row.values["spooled"] for row in await at.rows("tick")] == [False] * 7 + [True] * 2


async def test_a_hung_mount_costs_one_deadline_once_and_nothing_after(mount: Mount, tmp_path: Path) -> None:
    point = str(mount.point)
    settings = MetricsSettings(mounts_include=[point], collector_deadline=0.3, slow_interval=10)
    mount.hang()
    async with bench(tmp_path / "state", MovableClock(NOON), settings) as at:
        await at.pass_time(30)
        ticks = await at.rows("tick")
        assert len(ticks) == 3
        assert len(await at.rows("cpu_sample")) == 3
        stuck = [row.values["stuck_s"] for row in await at.rows("filesystem_sample")]
        assert stuck == sorted(stuck, key=lambda age: float(str(age)))
        assert float(str(stuck[0])) >= 0.3
        assert at.sampler._collection.trouble.keys() == {point}


@pytest.mark.parametrize("puts_before", [0, 1])
async def test_a_stop_in_the_middle_of_a_put_loses_no_sample_and_stamps_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, puts_before: int
) -> None:
    """Cancelled before the promise of the entities is on disk, or between that and the sample's own rows."""
    clock = MovableClock(NOON)
    put, puts, hangs = Spool.put, 0, asyncio.Event()

    async def slow(spool: Spool, rows: Sequence[Row], *, promise: bool = False) -> None:
        nonlocal puts
        puts += 1
        if puts == puts_before + 1:
            await put(spool, rows, promise=promise)  # it may be done, and its caller never learns of it
            hangs.set()
            await asyncio.Event().wait()
        await put(spool, rows, promise=promise)

    monkeypatch.setattr(Spool, "put", slow)
    async with bench(tmp_path, clock) as at:
        await clock.advance(10)
        await until(hangs.is_set, "the put hangs")
        await at.stop()
        ticks = await at.rows("tick")
        assert {row.at for row in ticks} == {NOON + timedelta(seconds=10)}
        assert {row.values["moved_ms"] for row in ticks} == {0}
        assert await at.rows("entity") != []
        assert len({(row.values["entity_id"], row.at) for row in await at.rows("cpu_sample")}) == 1
        assert at.sampler.lost == 0


async def test_names_that_are_made_up_are_not_remembered_for_ever(tmp_path: Path) -> None:
    """A container that is run once, a unit of one log-in: each is an entity, and there is no end to them."""
    entities = Entities("here")
    async with bench(tmp_path, MovableClock(NOON)) as at:
        await at.pass_time(10)
        for begin in range(0, 20_000, 1000):
            found = [entities.get("container", f"made_up_{number}") for number in range(begin, begin + 1000)]
            await at.sampler._announce(found, NOON)
        assert len(entities._known) <= KNOWN_MAX
        assert len(at.sampler._announced) <= KNOWN_MAX
        assert entities.get("container", "made_up_1") == Entities("here").get("container", "made_up_1")
        await at.pass_time(10)
        announced = [row.values["id"] for row in await at.rows("entity")]
        assert announced.count(next(row.values["entity_id"] for row in await at.rows("cpu_sample"))) == 2


async def test_a_full_disk_costs_no_sample(tmp_path: Path) -> None:
    (tmp_path / "state").touch()  # a file where the directory should be: nothing can be written
    async with bench(tmp_path / "state", MovableClock(NOON)) as at:
        await at.pass_time(20)
        assert len(await at.rows("cpu_sample")) == 2
        assert len(await at.rows("entity")) > 0
        assert at.sampler.lost == 0
