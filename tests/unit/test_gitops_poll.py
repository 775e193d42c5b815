"""Polling: what a lost webhook missed is found, what is known is left alone, and how a working copy stands is said."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homelab_agent.core.privilege import PrivilegedUnavailable
from tests.gitops_house import House, action, eventually, half, house, repository
from tests.half_model import Brake, HalfModel

LAST = action("last")
QUARTER = 900.0


@contextlib.asynccontextmanager
async def polling(directory: Path, root_half: HalfModel, *sections: dict[str, object]) -> AsyncIterator[House]:
    """An agent that polls, once its first look and what came of it are over."""
    async with house(directory, root_half, *sections, poll=QUARTER) as here:
        task = asyncio.ensure_future(here.service.poll.run())
        for name, tree in root_half.trees.items():
            await until_deployed(here, tree.tip, name)
        await until_looked(here, len(root_half.trees))
        await here.quiet()
        try:
            yield here
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until_deployed(here: House, sha: str, name: str = "homelab") -> None:
    async def is_deployed() -> bool:
        return await here.deployed(name) == sha

    await eventually(is_deployed, f"{name} is deployed")


async def until_looked(here: House, looks: int) -> None:
    """Wait until so many plans were asked for, and all who look sleep again."""

    async def has_looked() -> bool:
        return here.half.calls.count("git_plan") >= looks and here.clock.sleepers >= len(here.half.trees)

    await eventually(has_looked, "the remotes are looked at")


async def expect_no_news(here: House) -> None:
    """Look, and see that nothing is started for it: the next run is that of a push."""
    runs, looks = len(await here.runs()), here.half.calls.count("git_plan")
    await here.clock.advance(QUARTER * 1.2)
    await until_looked(here, looks + 1)
    here.tree.broken_at.clear()
    await here.closed(await here.push())
    await here.quiet()
    assert [run.trigger for run in (await here.runs())[runs:]] == ["webhook"]


async def test_what_a_lost_webhook_missed_is_found_at_start(tmp_path: Path) -> None:
    root_half = half()
    async with polling(tmp_path, root_half, repository("homelab", LAST)) as here:
        assert await here.deployed() == here.tree.tip
        assert [run.trigger for run in await here.runs()] == ["catch-up"]
    root_half.trees["homelab"].push({"a": "1"})
    async with polling(tmp_path, root_half, repository("homelab", LAST)) as here:
        assert here.tree.ran == [(here.tree.tip, "last")]


async def test_and_about_every_quarter_of_an_hour_never_at_quite_the_same_time(tmp_path: Path) -> None:
    async with polling(tmp_path, half(), repository("homelab", LAST)) as here:
        sha = here.tree.push({"a": "1"})
        looks = here.half.calls.count("git_plan")
        await here.clock.advance(QUARTER * 0.89)
        assert here.half.calls.count("git_plan") == looks
        await here.clock.advance(QUARTER * 0.22)
        await until_deployed(here, sha)
        await here.quiet()
        assert (await here.runs())[-1].trigger == "schedule"
        await until_looked(here, looks + 1)
        await expect_no_news(here)


@pytest.mark.parametrize(("rollback", "word"), [("manual", "action_failed"), ("automatic", "rolled_back")])
async def test_a_commit_that_failed_is_not_tried_again_and_again(rollback: str, word: str, tmp_path: Path) -> None:
    async with polling(tmp_path, half(), repository("homelab", LAST, rollback=rollback)) as here:
        bad = here.tree.push({"a": "1"})
        here.tree.broken_at[bad] = frozenset({"last"})
        assert (await here.closed((await here.deliver(bad)).guid))[0] == word
        await here.quiet()
        await here.service.poll.look("homelab")
        finding = await here.finding()
        assert finding.state == "degraded"
        assert finding.detail.startswith(word)
        await expect_no_news(here)


async def test_a_working_copy_that_drifts_is_said_with_its_repair_and_forgotten_when_it_is_mended(
    tmp_path: Path,
) -> None:
    async with polling(tmp_path, half(), repository("homelab")) as here:
        assert (await here.finding()).state == "ok"
        here.tree.dirty = True
        await here.service.poll.look("homelab")
        finding = await here.finding()
        assert finding.state == "degraded"
        assert finding.detail.startswith("dirty: 1 file edited here; deployed ")
        assert finding.repair == "cd /srv/homelab; git stash push"
        [standing] = [one for one in here.base.health.picture() if one.check == "gitops.homelab"]
        assert standing.finding == finding  # and at once
        here.tree.dirty = False
        await here.service.poll.look("homelab")
        assert (await here.finding()).state == "ok"


async def test_a_verdict_of_what_cannot_be_done_goes_when_the_next_look_is_good(tmp_path: Path) -> None:
    async with polling(tmp_path, half(), repository("homelab")) as here:
        here.half.failure = PrivilegedUnavailable(cause="it was stopped")
        await here.ask()
        assert (await here.finding()).state == "degraded"
        here.half.failure = None
        await here.service.poll.look("homelab")
        assert (await here.finding()).state == "ok"


async def test_a_repository_that_is_being_synced_is_left_alone(tmp_path: Path) -> None:
    async with polling(tmp_path, half(), repository("homelab", LAST)) as here:
        brake = here.half.gate = Brake(("run_action", "after"))
        guid = await here.push()
        await brake.held.wait()
        plans = here.half.calls.count("git_plan")
        await here.service.poll.look("homelab")
        assert here.half.calls.count("git_plan") == plans
        brake.release()
        assert (await here.closed(guid))[0] == "ok"


async def test_one_remote_that_hangs_keeps_no_other_from_being_looked_at(tmp_path: Path) -> None:
    root_half = half("homelab", "other")
    async with polling(tmp_path, root_half, repository("homelab"), repository("other")) as here:
        hanging = asyncio.Event()

        async def gate(name: str, verb: str, when: str) -> None:
            if (name, verb, when) == ("homelab", "git_plan", "before"):
                hanging.set()
                await asyncio.Event().wait()

        root_half.gate = gate
        sha = root_half.trees["other"].push({"a": "1"})
        await here.clock.advance(QUARTER * 1.2)
        await hanging.wait()
        await until_deployed(here, sha, "other")
        guid = await here.push(name="other")
        assert (await here.closed(guid))[0] == "ok"
