"""What runs use in their middle: in the order in which they ask for it, told to who looks, and no time of their own."""

from __future__ import annotations

import asyncio
from pathlib import Path

from homelab_agent.core.jobs import Job, Outcome, Run
from tests.clock import MovableClock, until
from tests.unit.test_jobs import DONE, House, Work, house

DISK = frozenset({"disk"})


class Late:
    """A job that uses the disk in its middle only."""

    def __init__(self) -> None:
        self.may_use, self.uses, self.may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.run: Run | None = None

    @property
    def is_late(self) -> bool:
        assert self.run is not None
        return self.run.cancelled.is_set()

    async def __call__(self, run: Run) -> Outcome:
        self.run = run
        await self.may_use.wait()
        async with run.using(DISK):
            self.uses.set()
            await self.may_end.wait()
        return DONE


def waits(here: House, name: str) -> tuple[str, str]:
    """Return how a run stands, and for whom it waits."""
    [run] = [run for run in here.jobs.live() if run.job == name]
    return run.state, run.waits_for


async def test_who_asks_in_the_middle_waits_for_who_asked_before_whoever_began_first(tmp_path: Path) -> None:
    async with house(tmp_path, MovableClock()) as here:
        first, second, backup = Late(), Late(), Work()
        here.jobs.add([Job("first", first, deadline=60.0), Job("second", second, deadline=60.0)])
        here.jobs.add([Job("backup", backup, deadline=60.0, uses=DISK)])
        ids = [await here.jobs.start(name) for name in ("first", "second", "backup")]
        await until(lambda: backup.runs, "the backup runs")
        second.may_use.set()
        await until(lambda: any(run.waits_for for run in here.jobs.live()), "one waits")
        first.may_use.set()
        await until(lambda: sum(bool(run.waits_for) for run in here.jobs.live()) == 2, "both wait")
        assert waits(here, "first") == waits(here, "second") == ("running", "backup")
        backup.may_end.set()
        await second.uses.wait()
        await until(lambda: waits(here, "first") == ("running", "second"), "the next in the order of asking")
        assert not first.uses.is_set()
        second.may_end.set()
        await first.uses.wait()
        assert waits(here, "first") == ("running", "")
        first.may_end.set()
        assert [(await here.ended(run_id)).state for run_id in ids] == ["ok", "ok", "ok"]


async def test_who_uses_it_in_the_middle_is_waited_for_by_who_wants_it_for_all_of_his_run(tmp_path: Path) -> None:
    async with house(tmp_path, MovableClock()) as here:
        late, backup = Late(), Work()
        backup.may_end.set()
        here.jobs.add([Job("late", late, deadline=60.0), Job("backup", backup, deadline=60.0, uses=DISK)])
        await here.jobs.start("late")
        late.may_use.set()
        await late.uses.wait()
        run_id = await here.jobs.start("backup")
        await until(lambda: any(run.waits_for for run in here.jobs.live()), "it waits")
        assert waits(here, "backup") == ("waiting", "late")
        late.may_end.set()
        assert (await here.ended(run_id)).state == "ok"


async def test_nobody_waits_for_himself(tmp_path: Path) -> None:
    async with house(tmp_path, MovableClock()) as here:
        late, behind = Late(), Work()
        behind.may_end.set()
        jobs = [Job("late", late, deadline=60.0, uses=DISK), Job("behind", behind, deadline=60.0, uses=DISK)]
        here.jobs.add(jobs)
        ids = [await here.jobs.start(job.name) for job in jobs]
        for event in (late.may_use, late.may_end):
            event.set()
        assert (await here.ended(ids[0])).state == "ok"
        assert (await here.ended(ids[1])).state == "ok"


async def test_to_wait_for_another_is_no_time_of_ones_own(tmp_path: Path) -> None:
    clock = MovableClock()
    async with house(tmp_path, clock) as here:
        late, backup = Late(), Work()
        here.jobs.add([Job("late", late, deadline=60.0), Job("backup", backup, deadline=6000.0, uses=DISK)])
        await here.jobs.start("backup")
        run_id = await here.jobs.start("late")
        await clock.advance(50)
        late.may_use.set()
        await until(lambda: any(run.waits_for for run in here.jobs.live()), "it waits")
        await clock.advance(1000)
        backup.may_end.set()
        await late.uses.wait()
        await clock.advance(9)
        assert waits(here, "late") == ("running", "")
        assert not late.is_late
        await clock.advance(2)
        await until(lambda: late.is_late, "its time is over")
        late.may_end.set()
        assert (await here.ended(run_id)).state == "ok"  # all was done


async def test_nor_is_it_where_that_is_the_first_that_it_does(tmp_path: Path) -> None:
    clock = MovableClock()
    async with house(tmp_path, clock) as here:
        late, backup = Late(), Work()
        late.may_use.set()
        here.jobs.add([Job("late", late, deadline=60.0), Job("backup", backup, deadline=6000.0, uses=DISK)])
        await here.jobs.start("backup")
        await here.jobs.start("late")
        await until(lambda: any(run.waits_for for run in here.jobs.live()), "it waits")
        await clock.advance(1000)
        assert not late.is_late
        backup.may_end.set()
        await late.uses.wait()
        await clock.advance(59)
        assert not late.is_late
        await clock.advance(2)
        await until(lambda: late.is_late, "its time is over")


async def test_one_that_is_cancelled_while_it_waits_is_in_nobody_s_way(tmp_path: Path) -> None:
    clock = MovableClock()
    async with house(tmp_path, clock) as here:
        late, backup, after = Late(), Work(), Work()
        after.may_end.set()
        here.jobs.add([Job("late", late, deadline=60.0)])
        here.jobs.add(
            Job(name, work, deadline=600.0, uses=DISK) for name, work in (("backup", backup), ("after", after))
        )
        await here.jobs.start("backup")
        run_id = await here.jobs.start("late")
        late.may_use.set()
        await until(lambda: any(run.waits_for for run in here.jobs.live()), "it waits")
        last = await here.jobs.start("after")
        assert await here.jobs.cancel(run_id)
        await clock.advance(60)  # it does not listen, and is cancelled hard
        assert (await here.ended(run_id)).state == "cancelled"
        backup.may_end.set()
        assert (await here.ended(last)).state == "ok"
