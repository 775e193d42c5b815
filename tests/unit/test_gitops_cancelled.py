"""A run that is asked to stop ends what it had begun, and nothing else: not before the root half has, and at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

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
