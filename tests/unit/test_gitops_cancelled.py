"""A run that is asked to stop ends what it had begun, and nothing else: not before the root half has, and at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from homelab_agent.core import privilege, process
from homelab_agent.core.clock import Clock
from homelab_agent.core.jobs import runner
from homelab_agent.gitops import git
from homelab_agent.gitops.delivery import Attempt
from tests.gitops_house import House, action, eventually, half, house, repository
from tests.half_model import Brake

LAST = action("last")


async def deployed_twice(here: House) -> tuple[str, str]:
    """Deploy a commit and one more; return both."""
    await here.ask()
    good = here.tree.head
    assert (await here.closed(await here.push()))[0] == "ok"
    await here.quiet()
    return good, here.tree.head


async def waiting(here: House) -> str:
    """Wait until a run waits for another; return its id."""

    async def found() -> list[str]:
        return [run.id for run in await here.live_runs() if run.state == "waiting"]

    [run_id] = await eventually(found, "a run that waits")
    return run_id


async def test_a_sync_that_is_cancelled_while_it_waits_leaves_the_rollback_that_it_waits_for_alone(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        good, bad = await deployed_twice(here)
        brake = here.half.gate = Brake(("git_rollback", "after"))
        rollback = await here.base.jobs.start("gitops.rollback.homelab")
        await brake.held.wait()
        guid = (await here.deliver(bad)).guid  # it would be deployed again
        assert await here.base.jobs.cancel(await waiting(here))
        assert (await here.closed(guid))[0] == "interrupted"
        brake.release()
        assert (await here.ended(rollback)).detail.startswith("rolled back to ")
        assert await here.deployed() == here.tree.head == good
        assert list(await here.service.moves.bad("homelab")) == [bad]
        assert here.tree.ran[-1] == (good, "last")
        assert (await here.ask("schedule")).detail.startswith("bad_sha: ")


@pytest.mark.parametrize("begun", [False, True])
async def test_what_comes_after_it_was_cancelled_is_the_next_sync_s(begun: bool, tmp_path: Path) -> None:  # noqa: FBT001
    async with house(tmp_path, half(), repository("homelab", action("last", "only/**"))) as here:
        await deployed_twice(here)
        brake = here.half.gate = Brake(("git_rollback", "before"))
        await here.base.jobs.start("gitops.rollback.homelab")
        await brake.held.wait()
        earlier = await here.push()
        inbox, ends, may_end = here.service.inbox, asyncio.Event(), asyncio.Event()
        open_attempts = inbox.open_attempts

        async def late(repository: str) -> list[Attempt]:
            if not ends.is_set():
                ends.set()
                await may_end.wait()
            return await open_attempts(repository)

        inbox.open_attempts = late  # type: ignore[method-assign]
        assert await here.base.jobs.cancel(await waiting(here))
        await ends.wait()
        await here.clock.advance(1)
        later = await here.push({"only/this": "1"})
        await waiting(here)
        if begun:
            acts = here.half.gate = Brake(("run_action", "before"))
            brake.release()
            await acts.held.wait()
            may_end.set()
            await here.clock.advance(1)
            acts.release()
        else:
            may_end.set()
            assert (await here.closed(earlier))[0] == "interrupted"
            brake.release()
        assert (await here.closed(later))[0] == "ok"
        await here.quiet()
        assert [state for _, _, state in await here.moves()][-1] == "ok"


async def test_what_came_before_by_a_clock_that_was_set_back_is_not_left_without_a_run(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        await deployed_twice(here)
        brake = here.half.gate = Brake(("git_rollback", "before"))
        await here.base.jobs.start("gitops.rollback.homelab")
        await brake.held.wait()
        guid = await here.push()
        run = await waiting(here)
        here.clock.step(-60)
        assert await here.base.jobs.cancel(run)
        brake.release()
        assert (await here.closed(guid))[0] == "ok"
        await here.quiet()


class Slow:
    """A half that is in a place until it is cancelled, and then takes `seconds` to end; a `HalfModel.gate`."""

    def __init__(self, clock: Clock, place: tuple[str, str], *, seconds: float) -> None:
        self.held = asyncio.Event()
        self.over = asyncio.Event()
        self._clock = clock
        self._place = place
        self._seconds = seconds

    async def __call__(self, _: str, verb: str, when: str) -> None:
        if (verb, when) != self._place or self.held.is_set():
            return
        self.held.set()
        try:
            await asyncio.Event().wait()
        finally:
            await self._clock.sleep(self._seconds)
            self.over.set()


SLOWLY = pytest.mark.parametrize("seconds", [1.0, 12.0, runner.GRACE_SECONDS * 3], ids=["soon", "late", "too late"])


@SLOWLY
async def test_its_attempts_end_when_the_root_half_has_ended_however_long_that_takes(
    seconds: float, tmp_path: Path
) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        await here.ask()
        slow = here.half.gate = Slow(here.clock, ("run_action", "after"), seconds=seconds)
        guid = await here.push()
        await slow.held.wait()
        [live] = await here.live_runs()
        assert await here.base.jobs.cancel(live.id)
        await here.clock.advance(seconds - 0.5)
        second = await here.push()
        assert not slow.over.is_set()
        assert (await here.attempts())[guid, 1]["verdict"] == ""
        assert len(here.tree.ran) == 1
        await here.clock.advance(1)
        assert slow.over.is_set()
        assert (await here.closed(guid))[0] == "interrupted"
        assert (await here.ended(live.id)).state == "cancelled"
        assert (await here.closed(second))[0] == "ok"
        assert [state for _, _, state in await here.moves()] == ["ok", "interrupted", "ok"]
        assert here.half.most_at_once == {"homelab": 1}


@SLOWLY
async def test_a_rollback_that_was_cancelled_is_not_gone_on_with_by_the_next_push(
    seconds: float, tmp_path: Path
) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        await deployed_twice(here)
        slow = here.half.gate = Slow(here.clock, ("git_rollback", "after"), seconds=seconds)
        rollback = await here.base.jobs.start("gitops.rollback.homelab")
        await slow.held.wait()
        assert await here.base.jobs.cancel(rollback)
        await here.clock.advance(seconds + 1)
        assert (await here.ended(rollback)).state == "cancelled"
        assert await here.service.moves.unfinished() == []
        assert (await here.closed(await here.push()))[0] == "ok"
        assert await here.service.moves.bad("homelab") == {}
        assert await here.deployed() == here.tree.tip


async def test_a_run_that_is_too_late_ends_as_well_however_long_the_root_half_takes(tmp_path: Path) -> None:
    async with house(tmp_path, half(), repository("homelab", LAST)) as here:
        await here.ask()
        slow = here.half.gate = Slow(here.clock, ("git_sync", "before"), seconds=20)
        guid = await here.push()
        await slow.held.wait()
        await here.clock.advance(here.capability.jobs[0].deadline + 21)
        assert (await here.closed(guid))[0] == "interrupted"
        await here.quiet()
        assert (await here.runs())[-1].state == "timed_out"


def test_who_waits_for_somebody_to_end_has_more_patience_than_he() -> None:
    assert git.GRACE_SECONDS + process.KILLED_SECONDS < privilege.GRACE_SECONDS < runner.GRACE_SECONDS
