"""What a kill cut short goes on the way that it went: forward, or back for the reason that it went back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.gitops_house import House, action, die, eventually, half, house, repository
from tests.half_model import Brake, HalfModel

AGAIN = action("again", repeat=True)
SECTION = repository("homelab", AGAIN)


async def is_over(here: House) -> None:
    """Wait until nothing is left to be taken up."""

    async def over() -> bool:
        return not await here.service.moves.unfinished() and await here.is_quiet()

    await eventually(over, "no move is unfinished")


async def killed(directory: Path, root_half: HalfModel, section: dict[str, Any], job: str, *place: str) -> None:
    """Run a job and kill the agent in that place."""
    async with house(directory, root_half, section) as here:
        verb, when = place
        brake = root_half.gate = Brake((verb, when))
        await here.base.jobs.start(job)
        await brake.held.wait()
        await die()
    root_half.gate = None


async def test_a_branch_that_was_rewritten_is_still_gone_forward_to(tmp_path: Path) -> None:
    root_half = half()
    async with house(tmp_path, root_half, SECTION) as here:
        await here.ask()
        base = here.tree.head
        assert (await here.closed(await here.push()))[0] == "ok"
        old = here.tree.head
        new = here.tree.push({"b": "1"}, parent=base)
        assert (await here.ask()).detail.startswith("forced: ")
        here.tree.adopt()  # as the repair for that says: git reset --keep
    await killed(tmp_path, root_half, SECTION, "gitops.sync.homelab", "run_action", "before")
    async with house(tmp_path, root_half, SECTION) as here:
        await is_over(here)
        assert await here.deployed() == here.tree.head == new
        assert await here.service.moves.bad("homelab") == {}
        assert (await here.moves())[-1] == (old, new, "ok")


@pytest.mark.parametrize("place", [("git_rollback", "before"), ("git_rollback", "after"), ("run_action", "before")])
async def test_what_a_person_asked_to_go_back_goes_back(place: tuple[str, str], tmp_path: Path) -> None:
    root_half = half()
    async with house(tmp_path, root_half, SECTION) as here:
        await here.ask()
        good = here.tree.head
        assert (await here.closed(await here.push()))[0] == "ok"
        bad = here.tree.head
    await killed(tmp_path, root_half, SECTION, "gitops.rollback.homelab", *place)
    async with house(tmp_path, root_half, SECTION) as here:
        await is_over(here)
        assert await here.deployed() == here.tree.head == good
        [why] = (await here.service.moves.bad("homelab")).values()
        assert why == f"rolled back to {good[:7]}: a person asked for it"
        assert list(await here.service.moves.bad("homelab")) == [bad]


async def test_what_went_back_by_itself_says_why_though_it_was_killed_in_that(tmp_path: Path) -> None:
    root_half, section = half(), repository("homelab", AGAIN, rollback="automatic")
    async with house(tmp_path, root_half, section) as here:
        await here.ask()
        good = here.tree.head
        bad = here.tree.push({"a": "1"})
        here.tree.broken_at[bad] = frozenset({"again"})
    await killed(tmp_path, root_half, section, "gitops.sync.homelab", "git_rollback", "after")
    async with house(tmp_path, root_half, section) as here:
        await is_over(here)
        assert await here.deployed() == here.tree.head == good
        assert [state for _, _, state in await here.moves()][-2:] == ["rolled_back", "ok"]
        assert (await here.service.moves.bad("homelab"))[bad].startswith("action again ended with 3")
