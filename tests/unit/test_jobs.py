"""Jobs: what is promised is on disk, what meets does not overlap, what is missed is caught up."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.core import statefile
from homelab_agent.core.clock import Clock, SystemClock
from homelab_agent.core.errors import AgentError, Exit
from homelab_agent.core.health import State as Standing
from homelab_agent.core.jobs import (
    AgentStopping,
    AlreadyRunning,
    Job,
    Jobs,
    Outcome,
    Run,
    RunRecord,
    UnknownJob,
    runner,
)
from homelab_agent.core.jobs import history as run_history
from homelab_agent.core.jobs.run import DETAIL_MAX, Asked, judge, recordable
from homelab_agent.core.spool import Row, Spool
from homelab_agent.core.state import State, StateUnavailable
from tests.clock import MovableClock, until
from tests.write_ahead import commits

VIENNA = ZoneInfo("Europe/Vienna")
ROOT = Path(__file__).parents[2]
DONE = Outcome(ok=True, detail="all done")


class TapeFull(AgentError):
    """The tape is full."""

    repair = "Put in another tape."


class Work:
    """What a job does in a test: notes that it began, and ends when it is let."""

    def __init__(self, outcome: Outcome | Exception = DONE, *, deaf: bool = False) -> None:
        self.outcome = outcome
        self.deaf = deaf
        self.runs: list[Run] = []
        self.may_end = asyncio.Event()

    async def __call__(self, run: Run) -> Outcome:
        self.runs.append(run)
        while not self.may_end.is_set():
            ends = [asyncio.ensure_future(event.wait()) for event in (self.may_end, run.cancelled)]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
            if run.cancelled.is_set() and not self.deaf:
                return Outcome(ok=False, detail="stopped half way")
            if run.cancelled.is_set():
                await self.may_end.wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class House:
    """Jobs on a real state.db and spool, with a clock that the test moves."""

    def __init__(self, state: State, spool: Spool, clock: Clock) -> None:
        self.state = state
        self.spool = spool
        self.jobs = Jobs(state, spool, clock, host="attic", timezone=VIENNA)

    async def ended(self, run_id: str) -> RunRecord:
        """Wait until the run is over, as its record in the history says."""
        async with asyncio.timeout(10):
            with self.jobs.changes.subscribe() as queue:
                while True:
                    record = await self.jobs.get(run_id)
                    if record is not None and record.ended:
                        return record
                    await queue.get()

    async def spooled(self) -> list[Row]:
        batch = await self.spool.take()
        return [] if batch is None else [row for row in batch.rows if row.table == "job_run"]

    async def on_disk(self) -> list[dict[str, Any]]:
        def work(connection: sqlite3.Connection) -> list[dict[str, Any]]:
            rows = connection.execute("SELECT job, trigger, state, ended_at IS NOT NULL FROM job_run ORDER BY rowid")
            return [dict(zip(("job", "trigger", "state", "ended"), row, strict=True)) for row in rows]

        return await self.state.read(work)


@asynccontextmanager
async def house(directory: Path, clock: Clock) -> AsyncIterator[House]:
    state = await State.open(directory, [], clock=clock)
    spool = Spool(state, clock, host="attic", max_bytes=1 << 27, max_age=7 * 86400.0)
    try:
        yield House(state, spool, clock)
    finally:
        await spool.close()
        await state.close()


@asynccontextmanager
async def scheduling(jobs: Jobs) -> AsyncIterator[None]:
    """The scheduler runs; its jobs are stopped when it ends."""
    task = asyncio.create_task(jobs.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_run_is_on_disk_before_its_id_is_told_and_its_end_reaches_the_spool(tmp_path: Path) -> None:
    async with house(tmp_path, MovableClock()) as here:
        work = Work()
        here.jobs.add([Job("sync", work, deadline=60.0)])
        run_id = await here.jobs.start("sync")
        assert await here.on_disk() == [{"job": "sync", "trigger": "command", "state": "running", "ended": 0}]
        assert not await here.spooled()
        work.may_end.set()
        record = await here.ended(run_id)
        assert (record.state, record.detail) == ("ok", "all done")
        assert here.jobs.last("sync") == record
        [row] = await here.spooled()
        assert row.key == ("id",)
        assert row.values["id"] == run_id
        assert row.values["host"] == "attic"
        assert row.values["ended_at"] == record.ended_at


@pytest.mark.parametrize(
    ("outcome", "state", "detail", "repair"),
    [
        (Outcome(ok=False, detail="no route", repair="Ask."), "failed", "no route", "Ask."),
        (TapeFull(cause="EOT"), "failed", "The tape is full. (EOT)", "Put in another tape."),
        (ZeroDivisionError("by zero"), "failed", "ZeroDivisionError: by zero", ""),
    ],
)
async def test_a_run_that_fails_says_why_and_health_hears_of_it(
    tmp_path: Path, outcome: Outcome | Exception, state: str, detail: str, repair: str
) -> None:
    async with house(tmp_path, MovableClock()) as here:
        work = Work(outcome)
        work.may_end.set()
        here.jobs.add([Job("sync", work, deadline=60.0)])
        record = await here.ended(await here.jobs.start("sync"))
        assert (record.state, record.detail, record.repair) == (state, detail, repair)
        [check] = here.jobs.checks()
        assert check.name == "job.sync"
        assert check.probe is not None
        found = await check.probe()
        assert found.state is Standing.DEGRADED
        assert detail in found.detail
        assert found.repair == (repair or "homelab-agent jobs run sync")


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("copied \udce9.txt", "copied ?.txt"),  # a file's name that is no UTF-8
        ("a\0b", "ab"),
        ("x" * 100_000, "x" * (DETAIL_MAX - 1) + "…"),
    ],
)
async def test_what_no_database_takes_does_not_keep_a_run_from_ending(tmp_path: Path, said: str, kept: str) -> None:
    async with house(tmp_path, MovableClock()) as here:
        done, broken = Work(Outcome(ok=True, detail=said, repair=said)), Work(OSError(said))
        for work in (done, broken):
            work.may_end.set()
        here.jobs.add([Job("done", done, deadline=60.0), Job("broken", broken, deadline=60.0)])
        record = await here.ended(await here.jobs.start("done"))
        assert (record.state, record.detail, record.repair) == ("ok", kept, kept)
        record = await here.ended(await here.jobs.start("broken"))
        assert (record.state, record.detail) == ("failed", kept)


async def test_an_end_that_cannot_be_recorded_as_it_is_counts_as_failed(tmp_path: Path) -> None:
    async with house(tmp_path, MovableClock()) as here:
        work = Work()
        work.may_end.set()
        here.jobs.add([Job("sync", work, deadline=60.0)])
        await here.jobs.history()
        refuse = "CREATE TRIGGER no BEFORE INSERT ON job_run WHEN new.state = 'ok' BEGIN SELECT RAISE(ABORT, 'no'); END"
        await here.state.write(lambda connection: connection.execute(refuse).close())
        record = await here.ended(await here.jobs.start("sync"))
        assert (record.state, record.detail) == ("failed", "IntegrityError: no")
        assert [row["state"] for row in await here.on_disk()] == ["failed"]


async def test_a_run_costs_two_commits_one_before_it_begins_one_at_its_end(tmp_path: Path) -> None:
    async with house(tmp_path, MovableClock()) as here:
        work = Work()
        here.jobs.add([Job("sync", work, deadline=60.0)])
        await here.jobs.history()
        before = commits(tmp_path)
        run_id = await here.jobs.start("sync")
        assert commits(tmp_path) - before == 1
        work.may_end.set()
        await here.ended(run_id)
        assert commits(tmp_path) - before == 2
        assert len(await here.spooled()) == 1


async def test_an_unknown_job_and_one_that_runs_already_are_refused(tmp_path: Path) -> None:
    async with house(tmp_path, MovableClock()) as here:
        work = Work()
        here.jobs.add([Job("sync", work, deadline=60.0)])
        with pytest.raises(UnknownJob):
            await here.jobs.start("sink")
        run_id = await here.jobs.start("sync")
        with pytest.raises(AlreadyRunning) as caught:
            await here.jobs.start("sync")
        assert run_id in str(caught.value)
        assert caught.value.repair == f"homelab-agent jobs follow {run_id}"
        assert caught.value.exit_code is Exit.BUSY
        work.may_end.set()
        await here.ended(run_id)
        assert await here.jobs.start("sync") != run_id


async def test_of_many_who_ask_at_once_one_starts_the_job(tmp_path: Path) -> None:
    async with house(tmp_path, MovableClock()) as here:
        work = Work()
        here.jobs.add([Job("sync", work, deadline=60.0)])
        answers = await asyncio.gather(*(here.jobs.start("sync") for _ in range(20)), return_exceptions=True)
        assert sum(isinstance(answer, str) for answer in answers) == 1
        assert sum(isinstance(answer, AlreadyRunning) for answer in answers) == 19
        assert len(await here.on_disk()) == 1


async def test_who_asks_and_leaves_has_started_the_run_all_the_same(tmp_path: Path) -> None:
    async with house(tmp_path, MovableClock()) as here:
        work = Work()
        here.jobs.add([Job("sync", work, deadline=60.0)])
        await here.jobs.history()
        asking = asyncio.create_task(here.jobs.start("sync"))
        await asyncio.sleep(0)
        asking.cancel()
        await until(lambda: work.runs, "the run")
        work.may_end.set()
        assert (await here.ended(work.runs[0].id)).state == "ok"


async def test_runs_that_use_the_same_wait_in_order_and_say_for_whom(tmp_path: Path) -> None:
    async with house(tmp_path, MovableClock()) as here:
        works = {name: Work() for name in ("backup", "restore", "drill", "reading")}
        containers, books = frozenset({"containers"}), frozenset({"books"})
        uses = {
            "backup": containers,
            "restore": containers | books,
            "drill": books,
            "reading": frozenset[str](),
        }
        here.jobs.add(Job(name, works[name], deadline=60.0, uses=uses[name]) for name in works)
        ids = {name: await here.jobs.start(name) for name in works}
        await until(lambda: works["reading"].runs, "the one that uses nothing")
        waiting = {run.job: run.waits_for for run in await here.jobs.history() if run.state == "waiting"}
        assert waiting == {"restore": "backup", "drill": "restore"}
        works["backup"].may_end.set()
        await until(lambda: works["restore"].runs, "restore's turn")
        assert not works["drill"].runs
        works["restore"].may_end.set()
        await until(lambda: works["drill"].runs, "drill's turn")
        for work in works.values():
            work.may_end.set()
        for run_id in ids.values():
            record = await here.ended(run_id)
            assert (record.state, record.waits_for) == ("ok", "")


async def test_a_run_that_waits_can_be_cancelled_and_those_behind_it_do_not_wait_for_it(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, MovableClock()) as here:
        works = {name: Work() for name in ("first", "second")}
        here.jobs.add(Job(name, works[name], deadline=60.0, uses=frozenset({"disk"})) for name in works)
        await here.jobs.start("first")
        second = await here.jobs.start("second")
        assert await here.jobs.cancel(second)
        record = await here.ended(second)
        assert (record.state, record.started_at) == ("cancelled", None)
        assert not works["second"].runs
        assert not await here.jobs.cancel(second)


async def test_a_run_asked_to_stop_says_how_far_it_came(tmp_path: Path) -> None:
    async with house(tmp_path, MovableClock()) as here:
        here.jobs.add([Job("sync", Work(), deadline=60.0)])
        run_id = await here.jobs.start("sync")
        assert await here.jobs.cancel(run_id)
        record = await here.ended(run_id)
        assert (record.state, record.detail) == ("cancelled", "stopped half way")
        [check] = here.jobs.checks()
        assert check.probe is not None
        assert (await check.probe()).state is Standing.OK


async def test_a_run_that_does_not_listen_is_cancelled_hard_after_a_grace(tmp_path: Path) -> None:
    clock = MovableClock()
    async with house(tmp_path, clock) as here:
        work = Work(deaf=True)
        here.jobs.add([Job("sync", work, deadline=60.0)])
        run_id = await here.jobs.start("sync")
        await until(lambda: work.runs, "the run")
        assert await here.jobs.cancel(run_id)
        await clock.advance(runner.GRACE_SECONDS - 0.1)
        assert (await here.jobs.history())[0].state == "running"
        await clock.advance(0.2)
        assert (await here.ended(run_id)).state == "cancelled"


async def test_a_run_beyond_its_deadline_is_timed_out(tmp_path: Path) -> None:
    clock = MovableClock()
    async with house(tmp_path, clock) as here:
        work = Work()
        here.jobs.add([Job("sync", work, deadline=60.0)])
        run_id = await here.jobs.start("sync")
        await until(lambda: work.runs, "the run")
        await clock.advance(59.9)
        assert not work.runs[0].cancelled.is_set()
        await clock.advance(0.2)
        record = await here.ended(run_id)
        assert (record.state, record.detail) == ("timed_out", "not done within 60 s; stopped half way")


async def test_a_run_that_is_to_be_over_before_the_next_slot_has_that_deadline(tmp_path: Path) -> None:
    clock = MovableClock()
    async with house(tmp_path, clock) as here:
        work = Work()
        here.jobs.add([Job("sync", work, 3600.0, schedule="every 10 minutes", ends_before_next=True)])
        for number, seconds in enumerate((9 * 60, 10 * 60)):  # the second begins a minute before a slot: not for that
            run_id = await here.jobs.start("sync")
            await until(lambda: len(work.runs) > number, "the run")  # noqa: B023
            await clock.advance(seconds - 0.1)
            assert not work.runs[number].cancelled.is_set()
            await clock.advance(0.1)
            assert (await here.ended(run_id)).state == "timed_out"


async def test_progress_is_published_and_remembered_while_the_run_lasts(tmp_path: Path) -> None:
    clock = MovableClock()
    async with house(tmp_path, clock) as here:
        work = Work()
        here.jobs.add([Job("sync", work, deadline=60.0)])
        run_id = await here.jobs.start("sync")
        await until(lambda: work.runs, "the run")
        with here.jobs.changes.subscribe() as queue:
            for done in range(1000):
                work.runs[0].progress(done, 1000, "files", "photos")
            assert queue.qsize() == 1
            await clock.advance(runner.PROGRESS_EVERY_SECONDS)
            work.runs[0].progress(1000, 1000, "files")
            assert queue.qsize() == 2
        for record in (await here.jobs.get(run_id), (await here.jobs.history())[0]):
            assert record is not None
            assert record.progress is not None
            assert (record.progress.done, record.progress.total, record.progress.unit) == (
                1000,
                1000,
                "files",
            )


async def test_a_scheduled_job_runs_at_its_time_and_not_again_for_the_same_slot(tmp_path: Path) -> None:
    clock = MovableClock(datetime(2026, 11, 24, 2, 14, tzinfo=UTC))
    async with house(tmp_path, clock) as here:
        work = Work()
        work.may_end.set()
        here.jobs.add([Job("backup", work, schedule="15 3 * * *", deadline=60.0)])
        slot = datetime(2026, 11, 24, 2, 15, tzinfo=UTC)
        assert here.jobs.next_times() == [("backup", slot)]
        async with scheduling(here.jobs):
            await until(lambda: clock.sleepers, "the scheduler")
            await clock.advance(59)
            assert not work.runs
            await clock.advance(1)
            await until(lambda: work.runs, "the run")
            assert (await here.ended(work.runs[0].id)).trigger == "schedule"
            assert here.jobs.next_times() == [("backup", slot + timedelta(days=1))]
            clock.step(-120)
            await until(lambda: clock.sleepers, "the scheduler")
            await clock.advance(300)
            assert len(work.runs) == 1


async def test_a_night_asleep_is_caught_up_once_where_that_is_asked_for(tmp_path: Path) -> None:
    clock = MovableClock(datetime(2026, 11, 24, 20, tzinfo=UTC))
    async with house(tmp_path, clock) as here:
        backup, report = Work(), Work()
        for work in (backup, report):
            work.may_end.set()
        here.jobs.add(
            [
                Job("backup", backup, schedule="15 3 * * *", catch_up=True, deadline=60.0),
                Job("report", report, schedule="30 3 * * *", deadline=60.0),
            ]
        )
        async with scheduling(here.jobs):
            await until(lambda: clock.sleepers, "the scheduler")
            clock.suspend(14 * 3600)
            for _ in range(12):
                await until(lambda: clock.sleepers, "the scheduler")
                await clock.advance(30)
            await until(lambda: backup.runs, "the run")
            assert [run.trigger for run in backup.runs] == ["catch-up"]
            assert not report.runs


async def test_a_slot_missed_while_the_host_was_off_is_caught_up_once_by_the_next_starts(
    tmp_path: Path,
) -> None:
    evening = datetime(2026, 11, 24, 20, tzinfo=UTC)
    triggers: list[str] = []
    for start in (evening, evening + timedelta(days=3), evening + timedelta(days=3, hours=1)):
        clock = MovableClock(start)
        async with house(tmp_path, clock) as here:
            work = Work()
            work.may_end.set()
            here.jobs.add([Job("backup", work, schedule="15 3 * * *", catch_up=True, deadline=60.0)])
            async with scheduling(here.jobs):
                for _ in range(12):
                    await until(lambda: clock.sleepers, "the scheduler")  # noqa: B023
                    await clock.advance(30)
                    for run in await here.jobs.history():
                        await here.ended(run.id)
            triggers += [run.trigger for run in work.runs]
    assert triggers == ["catch-up"]


async def test_a_changed_schedule_has_missed_nothing(tmp_path: Path) -> None:
    morning = datetime(2026, 11, 24, 9, tzinfo=UTC)
    for start, schedule in ((morning, "0 4 * * 0"), (morning + timedelta(days=1, hours=3), "0 10 * * *")):
        clock = MovableClock(start)
        async with house(tmp_path, clock) as here:
            work = Work()
            here.jobs.add([Job("backup", work, schedule=schedule, catch_up=True, deadline=60.0)])
            async with scheduling(here.jobs):
                for _ in range(12):
                    await until(lambda: clock.sleepers, "the scheduler")  # noqa: B023
                    await clock.advance(30)
            assert not work.runs


async def test_a_slot_that_comes_while_its_job_still_runs_is_let_go(tmp_path: Path) -> None:
    clock = MovableClock(datetime(2026, 11, 24, 11, 59, tzinfo=UTC))
    async with house(tmp_path, clock) as here:
        work = Work()
        here.jobs.add([Job("sync", work, schedule="every 10 minutes", deadline=7200.0)])
        run_id = await here.jobs.start("sync")
        async with scheduling(here.jobs):
            for _ in range(20):
                await until(lambda: clock.sleepers > 1, "the scheduler")
                await clock.advance(30)
            assert len(await here.on_disk()) == 1
            work.may_end.set()
            await here.ended(run_id)


async def test_stopping_asks_first_then_cancels_and_records_all(tmp_path: Path) -> None:
    clock = MovableClock()
    async with house(tmp_path, clock) as here:
        listening, deaf = Work(), Work(deaf=True)
        here.jobs.add([Job("listening", listening, deadline=60.0), Job("deaf", deaf, deadline=60.0)])
        await here.jobs.start("listening")
        await here.jobs.start("deaf")
        await until(lambda: listening.runs and deaf.runs, "both runs")
        stop = asyncio.create_task(here.jobs.stop(8.0))
        await until(lambda: here.jobs.last("listening"), "the end of the one that listens")
        with pytest.raises(AgentStopping):
            await here.jobs.start("listening")
        assert not stop.done()
        await clock.advance(4.1)
        async with asyncio.timeout(5):
            await stop
        assert {row["state"] for row in await here.on_disk()} == {"cancelled"}


async def test_a_scheduler_that_is_cancelled_and_begun_again_starts_what_is_due(tmp_path: Path) -> None:
    clock = MovableClock(datetime(2026, 11, 24, 11, 59, 50, tzinfo=UTC))
    async with house(tmp_path, clock) as here:
        work = Work()
        work.may_end.set()
        here.jobs.add([Job("sync", work, schedule="every hour", deadline=60.0)])
        async with scheduling(here.jobs):
            await until(lambda: clock.sleepers, "the scheduler")
        async with scheduling(here.jobs):
            await until(lambda: clock.sleepers, "the scheduler")
            await clock.advance(10)
            await until(lambda: work.runs, "the run")
            await here.ended(work.runs[0].id)


async def test_a_slot_that_comes_while_the_agent_stops_is_not_dealt_with(tmp_path: Path) -> None:
    clock = MovableClock(datetime(2026, 11, 24, 11, 59, 50, tzinfo=UTC))
    async with house(tmp_path, clock) as here:
        work = Work()
        work.may_end.set()
        here.jobs.add([Job("sync", work, schedule="every hour", deadline=60.0)])
        async with scheduling(here.jobs):
            await until(lambda: clock.sleepers, "the scheduler")
            await here.jobs.stop(1.0)
            await clock.advance(20)
        assert not work.runs
        async with scheduling(here.jobs):
            await until(lambda: work.runs, "the run")
            assert (await here.ended(work.runs[0].id)).trigger == "schedule"


async def test_while_nothing_can_be_written_nothing_starts_and_the_slot_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statefile, "BUSY_SECONDS", 0.01)
    clock = MovableClock(datetime(2026, 11, 24, 11, 59, 50, tzinfo=UTC))
    async with house(tmp_path, clock) as here:
        work = Work()
        work.may_end.set()
        here.jobs.add([Job("sync", work, schedule="every hour", deadline=60.0)])
        async with scheduling(here.jobs):
            await until(lambda: clock.sleepers, "the scheduler")
            with locked(tmp_path / "state.db"):
                with pytest.raises(StateUnavailable):
                    await here.jobs.start("sync")
                await clock.advance(10)
                await until(lambda: clock.sleepers, "the scheduler")
                assert not work.runs
            await clock.advance(30)
            await until(lambda: work.runs, "the run")
            assert (await here.ended(work.runs[0].id)).trigger == "schedule"


async def test_the_history_keeps_the_newest_of_each_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_history, "KEPT_PER_JOB", 8)
    monkeypatch.setattr(run_history, "KEPT_ALWAYS", 3)
    clock = MovableClock()
    async with house(tmp_path, clock) as here:
        work = Work()
        work.may_end.set()
        here.jobs.add([Job("sync", work, deadline=60.0), Job("other", work, deadline=60.0)])
        await here.ended(await here.jobs.start("other"))
        ids = [(await here.ended(await here.jobs.start("sync"))).id for _ in range(10)]
        assert [run.id for run in await here.jobs.history(job="sync")] == ids[:1:-1]
        clock.step(timedelta(days=run_history.KEPT_DAYS + 1).total_seconds())
        ids.append((await here.ended(await here.jobs.start("sync"))).id)
        assert [run.id for run in await here.jobs.history(job="sync")] == ids[:-4:-1]
        assert len(await here.jobs.history(job="other")) == 1
        assert len(await here.jobs.history(limit=2)) == 2


KILLED = textwrap.dedent("""
    import asyncio, sys
    from pathlib import Path
    from homelab_agent.core.clock import SystemClock
    from tests.unit.test_jobs import Job, Work, house

    async def main():
        async with house(Path(sys.argv[1]), SystemClock()) as here:
            uses = frozenset({"disk"})
            done = Work()
            done.may_end.set()
            here.jobs.add([Job("done", done, deadline=60.0)])
            here.jobs.add(Job(name, Work(), deadline=60.0, uses=uses) for name in ("first", "second"))
            await here.ended(await here.jobs.start("done"))
            print(await here.jobs.start("first"), await here.jobs.start("second"), flush=True)
            await asyncio.sleep(60)

    asyncio.run(main())
""")


async def test_what_a_killed_agent_left_is_found_as_interrupted_and_told_to_the_database(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    child = await asyncio.to_thread(subprocess.Popen, command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert child.stdout is not None
    first, second = (await asyncio.to_thread(child.stdout.readline)).split()
    child.send_signal(signal.SIGKILL)
    await asyncio.to_thread(child.communicate)
    async with house(tmp_path, SystemClock()) as here:
        here.jobs.add([Job("first", Work(), deadline=60.0)])
        found = {run.id: run for run in await here.jobs.history()}
        assert (found[first].state, found[first].detail) == ("interrupted", "the agent ended while it ran")
        assert (found[second].state, found[second].detail) == (
            "interrupted",
            "the agent ended before it began",
        )
        assert found[first].repair == "homelab-agent jobs run first"
        assert [run.state for run in found.values() if run.job == "done"] == ["ok"]
        assert {row.values["id"] for row in await here.spooled()} == set(found)
        assert await here.jobs.start("first") not in found


async def test_a_recovery_that_fails_half_way_still_tells_of_every_interrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = RunRecord("one", "sync", "command", "running", datetime(2026, 11, 24, 11, tzinfo=UTC))
    async with house(tmp_path, MovableClock()) as here:
        history = run_history.RunHistory(here.state, here.spool, "attic")
        await history.begin(left)
        with monkeypatch.context() as broken, here.jobs.changes.subscribe() as queue:
            broken.setattr(run_history.RunHistory, "last", _unavailable)
            with pytest.raises(StateUnavailable):
                await here.jobs.history()
            assert [row["state"] for row in await here.on_disk()] == ["interrupted"]
            broken.undo()
            await here.jobs.history()
            assert [(run.id, run.state) for run in [queue.get_nowait()]] == [("one", "interrupted")]
            assert queue.empty()


async def _unavailable(_: run_history.RunHistory) -> list[RunRecord]:
    raise StateUnavailable(directory="/", done="read", repair="")


async def test_an_end_that_missed_the_spool_is_put_there_by_the_next_start(tmp_path: Path) -> None:
    async with house(tmp_path, MovableClock()) as here:
        work = Work()
        work.may_end.set()
        here.jobs.add([Job("sync", work, deadline=60.0)])
        await here.ended(await here.jobs.start("sync"))
        batch = await here.spool.take()
        assert batch is not None
        await here.spool.done(batch)
        await here.state.write(lambda connection: connection.execute("UPDATE job_run SET spooled = 0").rowcount)
    async with house(tmp_path, MovableClock()) as here:
        before = batch.rows
        await here.jobs.history()
        assert await here.spooled() == list(before)


@given(
    st.sampled_from(["", "cancelled", "timed_out"]),
    st.none() | st.builds(Outcome, st.booleans(), st.text(max_size=5), st.text(max_size=5)),
)
def test_every_end_has_one_verdict(asked: Asked, outcome: Outcome | None) -> None:
    error = None if outcome is not None else TapeFull()
    verdict = judge(Job("sync", Work(), deadline=1.0), asked, outcome, error)
    if outcome is not None and outcome.ok:
        assert verdict.state == "ok"
    else:
        assert verdict.state == (asked or "failed")
    assert verdict.detail or (outcome is not None and not recordable(outcome.detail))


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """Keep the database from being written, as another program that holds it would."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.rollback()
        connection.close()
