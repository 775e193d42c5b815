"""Names of containers: asked when one is not known, rarely while nobody answers, and never twice in an interval."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from homelab_agent.core.privilege import Answer, PrivilegedUnavailable, Unprivileged
from homelab_agent.core.process_output import OnLine
from homelab_agent.metrics.roster import BRIDGED, VERB, Container, Roster, of_answer, of_docker, to_answer
from tests.clock import MovableClock

ONE, TWO = Container("1" * 64, "one", "busybox"), Container("2" * 64, "two", "busybox")
MINUTE = 60.0


class Half(Unprivileged):
    """A root half that answers what the test says, or is not there; counts how often it was asked."""

    def __init__(self) -> None:
        self.running: list[Container] | None = []
        self.asked = 0

    async def call(
        self,
        verb: str,
        *,
        deadline: float,  # noqa: ARG002 - the protocol's
        descriptors: Sequence[int] = (),  # noqa: ARG002
        on_line: OnLine | None = None,  # noqa: ARG002
        **names: object,
    ) -> Answer:
        assert (verb, names) == (VERB, {})
        self.asked += 1
        if self.running is None:
            raise PrivilegedUnavailable(cause="it has the day off")
        return to_answer(self.running)


class Learner:
    """Sees containers, and takes what they are called."""

    def __init__(self) -> None:
        self.seen: frozenset[str] = frozenset()
        self.named: Mapping[str, Container] = {}
        self.nameless: frozenset[str] = frozenset()

    @property
    def unknown(self) -> frozenset[str]:
        return self.seen - self.named.keys()

    def learn(self, named: Mapping[str, Container], nameless: frozenset[str]) -> None:
        self.named, self.nameless = named, nameless


class Watched:
    """A roster that watches, on a clock that the test moves; the sampler looks once a minute."""

    def __init__(self) -> None:
        self.clock = MovableClock()
        self.half = Half()
        self.learner = Learner()
        self.unnamed = asyncio.Event()
        self.roster = Roster(self.learner, self.unnamed, self.half, self.clock, lambda: MINUTE)

    async def look(self, *ids: str, minutes: int = 1) -> None:
        """Let so many minutes pass, with a look at the containers in each."""
        self.learner.seen = frozenset(ids)
        for _ in range(minutes):
            if self.learner.unknown:
                self.unnamed.set()
            await self.clock.advance(MINUTE)


@asynccontextmanager
async def watching() -> AsyncIterator[Watched]:
    watched = Watched()
    task = asyncio.create_task(watched.roster.watch())
    try:
        yield watched
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_it_is_asked_for_one_that_is_not_known_and_then_no_more() -> None:
    async with watching() as on:
        on.half.running = [ONE]
        await on.look(minutes=3)
        assert on.half.asked == 0
        await on.look(ONE.id, minutes=5)
        assert (on.half.asked, on.learner.named) == (1, {ONE.id: ONE})
        on.half.running = [ONE, TWO]
        await on.look(ONE.id, TWO.id, minutes=5)
        assert (on.half.asked, set(on.learner.named)) == (2, {ONE.id, TWO.id})
        await on.look(minutes=5)
        assert on.half.asked == 2


async def test_it_is_asked_once_in_an_interval_however_many_come() -> None:
    async with watching() as on:
        for number in range(9):
            on.learner.seen = frozenset({f"{number:064x}"})
            on.half.running = [Container(f"{number:064x}", f"job-{number}", "busybox")]
            on.unnamed.set()
            await on.clock.advance(MINUTE / 10)
        assert on.half.asked == 1


async def test_who_is_not_dockers_goes_by_its_id_and_is_not_asked_for_again() -> None:
    async with watching() as on:
        on.half.running = [ONE]
        await on.look(ONE.id, TWO.id, minutes=10)
        assert (on.half.asked, on.learner.nameless) == (1, frozenset({TWO.id}))


async def test_while_nobody_answers_it_is_asked_ever_more_rarely_and_ids_do_in_the_end() -> None:
    async with watching() as on:
        on.half.running = None
        await on.look(ONE.id)
        assert (on.half.asked, on.learner.nameless, on.roster.cause) == (1, frozenset(), "")
        await on.look(ONE.id, minutes=8)
        assert on.half.asked == BRIDGED
        assert on.learner.nameless == {ONE.id}
        assert "it has the day off" in on.roster.cause
        await on.look(ONE.id, minutes=600)
        assert on.half.asked < 20
        on.half.running = [ONE]
        await on.look(ONE.id, minutes=70)
        assert (on.learner.named, on.learner.nameless, on.roster.cause) == ({ONE.id: ONE}, frozenset(), "")


async def test_a_half_that_comes_up_late_breaks_no_series() -> None:
    async with watching() as on:
        on.half.running = None
        await on.look(ONE.id)
        on.half.running = [ONE]
        await on.look(ONE.id, minutes=3)
        assert (on.half.asked, on.learner.named, on.learner.nameless) == (2, {ONE.id: ONE}, frozenset())


def listed(*names: str, **labels: str) -> dict[str, Any]:
    long = {name: f"com.docker.compose.{name.replace('_', '-')}" for name in labels}
    return {"Id": "f" * 64, "Names": names, "Image": "busybox", "Labels": {long[name]: labels[name] for name in labels}}


@pytest.mark.parametrize(
    ("said", "identity"),
    [
        (listed("/shop-db-1", project="shop", service="db", container_number="1"), "shop/db/1"),
        (listed("/0a1b_shop-db-1", project="shop", service="db", container_number="1"), "shop/db/1"),
        (listed("/once", project="shop", service="db", container_number="1", oneoff="True"), "once"),
        (listed("/shop-db-1", project="shop", service="db", container_number="1", oneoff="False"), "shop/db/1"),
        (listed("/a/b", "/a-name-of-its-own"), "a-name-of-its-own"),
        (listed(), "f" * 12),
        ({**listed("/plain"), "Labels": None}, "plain"),
    ],
)
def test_by_what_a_container_is_known(said: Mapping[str, Any], identity: str) -> None:
    container = of_docker(said)
    assert container.identity == identity
    assert of_answer(to_answer([container])) == {container.id: container}
