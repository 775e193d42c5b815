"""The first deployment: what is there is taken as it is, and what is new is followed by all that it touches, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from homelab_agent.core.privilege import PrivilegedUnavailable
from tests.clock import until
from tests.gitops_house import House, action, die, half, house, repository
from tests.half_model import Brake, HalfModel

STACKS = action("stacks", "compose/**")
LAST = action("last")
BORN = pytest.mark.parametrize("is_born", [True, False], ids=["behind", "empty"])


def not_deployed(*, is_born: bool) -> HalfModel:
    """Return a half with a working copy that lacks what was pushed, or all of it."""
    root_half = half()
    tree = root_half.trees["homelab"]
    tree.push({"compose/a": "1"})
    if not is_born:
        tree.head = ""
    return root_half


async def is_deployed(here: House) -> None:
    assert await here.deployed() == here.tree.tip
    assert here.tree.ran == [(here.tree.tip, "stacks"), (here.tree.tip, "last")]


@BORN
async def test_what_it_touches_follows(is_born: bool, tmp_path: Path) -> None:  # noqa: FBT001
    async with house(tmp_path, not_deployed(is_born=is_born), repository("homelab", STACKS, LAST)) as here:
        assert (await here.ask()).state == "ok"
        await is_deployed(here)


@BORN
async def test_submodules_that_come_later_lose_no_action(is_born: bool, tmp_path: Path) -> None:  # noqa: FBT001
    async with house(tmp_path, not_deployed(is_born=is_born), repository("homelab", STACKS, LAST)) as here:
        here.tree.lacks_submodules = True
        assert (await here.ask()).detail.startswith("fetch_failed: ")
        assert here.tree.head == here.tree.tip
        here.tree.lacks_submodules = False
        assert (await here.ask("schedule")).state == "ok"
        await is_deployed(here)


@BORN
async def test_a_kill_after_git_has_moved_loses_no_action(is_born: bool, tmp_path: Path) -> None:  # noqa: FBT001
    root_half = not_deployed(is_born=is_born)
    section = repository("homelab", STACKS, LAST)
    async with house(tmp_path, root_half, section) as here:
        root_half.gate = moved = Brake(("git_sync", "after"))
        guid = (await here.deliver(here.tree.tip)).guid
        await moved.held.wait()
        await die()
    root_half.gate = None
    async with house(tmp_path, root_half, section) as here:
        assert (await here.closed(guid))[0] == "ok"
        await is_deployed(here)


async def test_one_that_fails_can_be_rolled_back_to_what_was_there(tmp_path: Path) -> None:
    async with house(tmp_path, not_deployed(is_born=True), repository("homelab", LAST)) as here:
        before = here.tree.head
        here.tree.broken_at[here.tree.tip] = frozenset({"last"})
        record = await here.ask()
        assert (record.state, record.repair) == ("failed", "homelab-agent gitops rollback homelab")
        assert (await here.run("gitops.rollback.homelab")).state == "ok"
        assert await here.deployed() == here.tree.head == before


async def test_a_root_half_that_is_away_then_is_waited_for(tmp_path: Path) -> None:
    async with house(tmp_path, not_deployed(is_born=True), repository("homelab", STACKS, LAST)) as here:
        here.half.failure = PrivilegedUnavailable(cause="it was stopped")
        assert (await here.ask()).detail.endswith("; it goes on by itself when that is there again")
        await until(lambda: here.service.worker.goes_on_later("homelab"), "it goes on later")
        here.half.failure = None
        await here.clock.advance(40)
        await here.quiet()
        await is_deployed(here)


async def test_what_git_refuses_the_first_time_is_no_beginning(tmp_path: Path) -> None:
    async with house(tmp_path, not_deployed(is_born=True), repository("homelab", LAST)) as here:
        here.tree.dirty = True
        assert (await here.ask()).detail.startswith("dirty: ")
        assert await here.moves() == []
