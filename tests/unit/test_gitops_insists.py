"""What failed is tried again for who asks for it after that, also of an agent that is killed then."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.gitops_house import House, action, die, half, house, repository
from tests.half_model import Brake

SECTION = repository("homelab", action("last"))


async def failed(here: House) -> tuple[str, str]:
    """Push what fails once; return commit and GUID."""
    await here.ask()
    here.tree.broken = frozenset({"last"})
    sha = here.tree.push({"a": "1"})
    guid = (await here.deliver(sha)).guid
    assert (await here.closed(guid))[0] == "action_failed"
    await here.quiet()
    await here.clock.advance(1)
    return sha, guid


async def test_a_redelivery_that_a_killed_agent_had_not_begun_with_is_tried_by_the_next(tmp_path: Path) -> None:
    root_half = half()
    async with house(tmp_path, root_half, SECTION) as here:
        sha, guid = await failed(here)
    async with house(tmp_path, root_half, SECTION, working=False) as here:
        await here.clock.advance(10)
        here.tree.broken = frozenset()
        await here.deliver(sha, guid=guid)
        await die()
    async with house(tmp_path, root_half, SECTION) as here:
        assert (await here.closed(guid, 2))[0] == "ok"
        assert [record.trigger for record in await here.runs()][-1] == "catch-up"
        assert here.tree.ran == [(sha, "last"), (sha, "last")]


async def test_one_that_had_failed_by_then_is_not_tried_a_third_time(tmp_path: Path) -> None:
    root_half = half()
    async with house(tmp_path, root_half, SECTION) as here:
        sha, guid = await failed(here)
        acts, ends = Brake(("run_action", "after")), asyncio.Event()

        async def never(ended: Sequence[Any]) -> None:
            ends.set()
            await asyncio.Event().wait()

        root_half.gate, here.service.inbox.close = acts, never  # type: ignore[method-assign]
        await here.deliver(sha, guid=guid)
        await acts.held.wait()
        await here.clock.advance(1)
        acts.release()
        await ends.wait()  # that it failed is on disk, and its verdict is not
        await die()
    root_half.gate = None
    async with house(tmp_path, root_half, SECTION) as here:
        assert (await here.closed(guid, 2))[0] == "action_failed"
        assert here.tree.ran == [(sha, "last"), (sha, "last")]
