"""Several repositories beside each other, and other jobs: what waits for what, and what for nothing."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path

from tests.clock import until
from tests.gitops_house import action, half, house, repository

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
