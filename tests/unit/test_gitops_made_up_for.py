"""Where actions were begun for a commit that is not deployed, the next deployment makes up for that, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from homelab_agent.core.privilege import VerbFailed
from homelab_agent.gitops.sync import AGAIN
from tests.gitops_house import House, action, die, half, house, repository
from tests.half_model import Brake

STACKS = action("stacks", "compose/**")
LAST = action("last")
SECTION = repository("homelab", STACKS, LAST)


async def half_way_back(here: House) -> tuple[str, str]:
    """Roll back from a commit so that the first action runs and the second fails; return the commits, good and bad."""
    await here.ask()
    good = here.tree.head
    assert (await here.closed(await here.push({"compose/a": "1"})))[0] == "ok"
    bad = here.tree.head
    here.tree.broken_at[good] = frozenset({"last"})
    assert (await here.run("gitops.rollback.homelab")).state == "failed"
    assert here.tree.ran[-2:] == [(good, "stacks"), (good, "last")]
    assert (here.tree.head, await here.deployed()) == (good, bad)
    return good, bad


async def test_a_rollback_that_failed_is_made_up_for_by_the_commit_that_it_left(tmp_path: Path) -> None:
    async with house(tmp_path, half(), SECTION) as here:
        _, bad = await half_way_back(here)
        preview = await here.service.deployments["homelab"].preview()
        assert preview["actions"] == ["stacks", "last"]
        run_id = await here.base.jobs.start("gitops.sync.homelab", options=frozenset({AGAIN}))
        assert (await here.ended(run_id)).state == "ok"
        assert here.tree.ran[-2:] == [(bad, "stacks"), (bad, "last")]
        assert await here.deployed() == here.tree.head == bad
        ran = len(here.tree.ran)
        assert (await here.ask()).detail.startswith("up_to_date: ")
        assert len(here.tree.ran) == ran


async def test_a_rollback_that_failed_is_made_up_for_by_the_next_push(tmp_path: Path) -> None:
    async with house(tmp_path, half(), SECTION) as here:
        await half_way_back(here)
        assert (await here.closed(await here.push({"notes": "1"})))[0] == "ok"
        assert here.tree.ran[-2:] == [(here.tree.tip, "stacks"), (here.tree.tip, "last")]


async def test_a_look_has_it_made_up_for_once(tmp_path: Path) -> None:
    async with house(tmp_path, half(), SECTION) as here:
        _, bad = await half_way_back(here)
        await here.service.poll.look("homelab")
        assert await here.is_quiet(), "nobody has said that it may come again"
        await here.service.deployments["homelab"].forgive()
        here.tree.broken_at[bad] = frozenset({"last"})
        for _ in range(2):
            await here.service.poll.look("homelab")
            await here.quiet()
        assert here.tree.ran[-2:] == [(bad, "stacks"), (bad, "last")]
        assert len(here.tree.ran) == 6


@pytest.mark.parametrize("rollback", ["manual", "automatic"])
async def test_a_deployment_that_failed_and_was_taken_back_by_hand_is_made_up_for(
    rollback: str, tmp_path: Path
) -> None:
    async with house(tmp_path, half(), repository("homelab", STACKS, LAST, rollback=rollback)) as here:
        await here.ask()
        good = here.tree.head
        bad = here.tree.push({"compose/a": "1"})
        here.tree.broken_at[bad] = frozenset({"last"})
        here.half.failing = lambda verb: VerbFailed(message="no") if verb == "git_rollback" else None
        assert (await here.closed((await here.deliver(bad)).guid))[0] == "action_failed"
        here.half.failing = lambda _: None
        here.tree.tip = good  # pushed by force
        here.tree.adopt()  # and reset
        here.tree.broken_at[good] = frozenset({"last"})
        assert (await here.ask()).detail.startswith("action_failed: ")
        assert here.tree.ran[-2:] == [(good, "stacks"), (good, "last")]
        assert here.tree.head == good, "there is nothing before it to go back to"
        here.tree.broken_at.clear()
        assert (await here.ask()).detail.startswith("ok: ")
        assert here.tree.ran[-2:] == [(good, "stacks"), (good, "last")]
        assert await here.deployed() == good


async def test_an_action_that_was_cut_short_is_told_though_git_knows_better_by_then_what_had_changed(
    tmp_path: Path,
) -> None:
    root_half = half()
    async with house(tmp_path, root_half, SECTION) as here:
        await here.ask()
        root_half.failing = lambda verb: VerbFailed(message="no") if verb == "git_changed" else None
        acts = root_half.gate = Brake(("run_action", "after"))
        guid = await here.push({"notes": "1"})
        await acts.held.wait()  # for all that git could say, stacks may have changed
        await die()
    root_half.failing, root_half.gate = lambda _: None, None
    async with house(tmp_path, root_half, SECTION) as here:
        detail = "action stacks was cut short, and is not repeated by itself"
        assert await here.closed(guid) == ("interrupted", detail)
        assert [name for _, name in here.tree.ran] == ["stacks"]
