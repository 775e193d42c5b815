"""Several repositories beside each other, and other jobs: what waits for what, and what for nothing."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from homelab_agent.core.jobs import CONTAINERS, Job, Outcome, Run, RunRecord
from tests.clock import until
from tests.gitops_house import House, action, eventually, half, house, repository

LAST = action("last")


class Brakes:
    """Holds each repository back in a place of its own; a `HalfModel.gate`."""

    def __init__(self, **places: tuple[str, str]) -> None:
        self._places = places
        self.held: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.free: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def __call__(self, name: str, verb: str, when: str) -> None:
        if self._places.get(name) == (verb, when):
            self.held[name].set()
            await self.free[name].wait()


async def test_the_agent_is_restarted_when_no_other_run_is_cut_short_by_that(tmp_path: Path) -> None:
    root_half = half("first", "second")
    sections = (repository("first", LAST, restart_agent=True), repository("second", LAST))
    async with house(tmp_path, root_half, *sections) as here:
        for name in root_half.trees:
            await here.ask(name=name)
        acts = ("run_action", "before")
        brakes = root_half.gate = Brakes(first=acts, second=acts)
        first = await here.push(name="first")
        await brakes.held["first"].wait()
        second = await here.push(name="second")
        brakes.free["first"].set()
        assert (await here.closed(first))[0] == "ok"
        await brakes.held["second"].wait()
        await here.clock.advance(60)
        assert root_half.restarts == 0
        third = await here.push(name="second")
        brakes.free["second"].set()
        assert (await here.closed(second))[0] == "ok"
        await until(lambda: root_half.restarts, "the restart")
        assert (await here.closed(third))[0] == "ok"
        await here.quiet()
        assert root_half.restarts == 1


class Backup:
    """A job that uses the containers for as long as a test wants."""

    def __init__(self, here: House) -> None:
        self.may_end = asyncio.Event()
        self._jobs = here.base.jobs
        self._jobs.add([Job("backup", self._run, deadline=86400.0, uses=frozenset({CONTAINERS}))])

    async def start(self) -> str:
        return await self._jobs.start("backup")

    async def _run(self, _: Run) -> Outcome:
        await self.may_end.wait()
        return Outcome(ok=True, detail="all saved")


async def waits_for(here: House, job: str) -> RunRecord:
    """Wait until a run waits for one of that job."""

    async def found() -> list[RunRecord]:
        return [run for run in await here.live_runs() if run.waits_for == job]

    return (await eventually(found, f"a run that waits for {job}"))[0]


async def test_a_remote_that_hangs_keeps_no_other_repository_waiting(tmp_path: Path) -> None:
    root_half = half("hangs", "other")
    async with house(tmp_path, root_half, repository("hangs", LAST), repository("other", LAST)) as here:
        for name in root_half.trees:
            await here.ask(name=name)
        brakes = root_half.gate = Brakes(hangs=("git_sync", "before"))
        first = await here.push(name="hangs")
        await brakes.held["hangs"].wait()
        assert (await here.closed(await here.push(name="other")))[0] == "ok"
        brakes.free["hangs"].set()
        assert (await here.closed(first))[0] == "ok"


async def test_what_may_touch_containers_follows_one_after_the_other_and_says_for_whom_it_waits(tmp_path: Path) -> None:
    root_half = half("first", "second")
    async with house(tmp_path, root_half, repository("first", LAST), repository("second", LAST)) as here:
        for name in root_half.trees:
            await here.ask(name=name)
        brakes = root_half.gate = Brakes(first=("run_action", "before"))
        first = await here.push(name="first")
        await brakes.held["first"].wait()
        second = await here.push(name="second")
        assert (await waits_for(here, "gitops.sync.first")).state == "running"
        tree = root_half.trees["second"]
        assert (tree.head, tree.ran) == (tree.tip, [])
        brakes.free["first"].set()
        assert (await here.closed(first))[0] == (await here.closed(second))[0] == "ok"


async def test_a_backup_is_waited_for_where_something_follows_and_that_is_no_lost_time(tmp_path: Path) -> None:
    units = action("units", kind="systemctl", units=["caddy.service"], command=[])
    root_half = half("stacks", "units")
    sections = repository("stacks", action("stacks", "compose/**")), repository("units", units)
    async with house(tmp_path, root_half, *sections) as here:
        for name in root_half.trees:
            await here.ask(name=name)
        backup = Backup(here)
        run_id = await backup.start()
        assert (await here.closed(await here.push(name="units")))[0] == "ok"
        assert (await here.closed(await here.push({"notes": "1"}, name="stacks")))[0] == "ok"
        waiting = await here.push({"compose/a": "1"}, name="stacks")
        await waits_for(here, "backup")
        await here.clock.advance(here.capability.jobs[0].deadline + 60)
        assert (await here.attempts())[waiting, 1]["verdict"] == ""
        backup.may_end.set()
        assert (await here.closed(waiting))[0] == "ok"
        assert (await here.ended(run_id)).state == "ok"
        said = generate_latest(here.base.registry).decode()
        assert 'gitops_sync_seconds_sum{repository="stacks"} 0.0' in said


@pytest.mark.parametrize("job", ["sync", "rollback"])
async def test_what_waits_for_a_backup_can_be_cancelled_and_is_in_nobody_s_way(job: str, tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        await here.ask()
        await here.closed(await here.push())
        await here.quiet()
        ran = len(here.tree.ran)
        backup = Backup(here)
        run_id = await backup.start()
        if job == "sync":
            here.tree.push({"a": "new"})
        await here.base.jobs.start(f"gitops.{job}.homelab")
        waiting = await waits_for(here, "backup")
        assert await here.base.jobs.cancel(waiting.id)
        assert (await here.ended(waiting.id)).state == "cancelled"
        assert await here.service.moves.unfinished() == []
        assert len(here.tree.ran) == ran
        backup.may_end.set()
        assert (await here.ended(run_id)).state == "ok"
        assert (await here.closed(await here.push()))[0] == "ok"


async def test_a_backup_waits_until_what_follows_is_well_or_undone(tmp_path: Path) -> None:
    section = repository("homelab", LAST, rollback="automatic")
    async with house(tmp_path, half(), section) as here:
        await here.ask()
        good, bad = here.tree.head, here.tree.push({"a": "1"})
        here.tree.broken_at[bad] = frozenset({"last"})
        brakes = here.half.gate = Brakes(homelab=("git_rollback", "before"))
        guid = (await here.deliver(bad)).guid
        await brakes.held["homelab"].wait()
        backup = Backup(here)
        backup.may_end.set()
        run_id = await backup.start()
        assert (await waits_for(here, "gitops.sync.homelab")).state == "waiting"
        brakes.free["homelab"].set()
        assert (await here.closed(guid))[0] == "rolled_back"
        assert here.tree.ran[-1] == (good, "last")
        assert (await here.ended(run_id)).state == "ok"
