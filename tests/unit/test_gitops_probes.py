"""The health gate, against real ports: a probe is asked until it holds once, and no longer than its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from homelab_agent.gitops.probes import Gate
from homelab_agent.gitops.settings import Probe
from homelab_agent.gitops.working_copy import Done
from tests.clock import MovableClock, until
from tests.pages import serving


async def nothing(_: int) -> Done:
    raise AssertionError("the root half is not asked")


def gate(clock: MovableClock, *probes: Probe, elsewhere: Callable[[int], Done] | None = None) -> Gate:
    async def ask(index: int) -> Done:
        assert elsewhere is not None
        return elsewhere(index)

    return Gate(probes, ask if elsewhere is not None else nothing, clock)


async def test_without_probes_the_gate_is_open() -> None:
    assert await gate(MovableClock()).trouble() == ""


async def test_a_probe_is_asked_again_until_it_holds() -> None:
    clock = MovableClock()
    async with serving(503, 503, 200) as page:
        asked = asyncio.ensure_future(gate(clock, Probe(target=page.url)).trouble())
        for number in (1, 2):
            await until(lambda number=number: page.asked == number and clock.sleepers, "the probe waits")  # type: ignore[misc]
            await clock.advance(1)
        assert await asked == ""
        assert page.asked == 3


async def test_one_that_does_not_hold_in_its_time_is_named_with_what_it_said_last() -> None:
    clock = MovableClock()
    async with serving(503) as page:
        asked = asyncio.ensure_future(gate(clock, Probe(target=page.url, within=2.5)).trouble())
        for number, seconds in ((1, 1.0), (2, 1.0), (3, 0.5)):
            await until(lambda number=number: page.asked == number and clock.sleepers, "the probe waits")  # type: ignore[misc]
            await clock.advance(seconds)
        assert await asked == f"http {page.url} does not hold after 2.5 s: it answers 503"
        assert page.asked == 4


async def test_each_has_its_own_time_and_all_that_do_not_hold_are_named() -> None:
    clock = MovableClock()
    probes = [
        Probe(kind="unit", target="a.service", within=1.0),
        Probe(kind="container", target="caddy", within=3.0),
        Probe(kind="command", command=["true", "-x"], within=2.0),
        Probe(kind="unit", target="b.service", within=1.0),
    ]

    def answer(index: int) -> Done:
        return Done(index == 3, f"said {index}")

    asked = asyncio.ensure_future(gate(clock, *probes, elsewhere=answer).trouble())
    await clock.advance(10)
    assert await asked == (
        "unit a.service does not hold after 1 s: said 0; container caddy does not hold after 3 s: said 1;"
        " command true -x does not hold after 2 s: said 2"
    )


async def test_probes_are_asked_side_by_side() -> None:
    """One that never answers keeps none of the others from being asked."""
    clock = MovableClock()
    asked_for: set[int] = set()

    async def elsewhere(index: int) -> Done:
        asked_for.add(index)
        if index == 0:
            await asyncio.Event().wait()
        return Done(ok=True, detail="")

    probes = [Probe(kind="unit", target="x", within=1.0)] * 2
    trouble = asyncio.ensure_future(Gate(probes, elsewhere, clock).trouble())
    await until(lambda: asked_for == {0, 1}, "both are asked")
    trouble.cancel()
    await asyncio.gather(trouble, return_exceptions=True)
