"""The picture of the agent's health: what is reported at once, and what a probe found."""

from __future__ import annotations

from homelab_agent.core.health import Check, Finding, Health
from tests.clock import MovableClock

GONE = Finding.failed("the disk is gone")


class Picture:
    """A check that is asked, and told of."""

    def __init__(self) -> None:
        self.clock = MovableClock()
        self.health = Health(self.clock)
        self.found = Finding.ok("durable")
        self.health.add([Check("state", self._probe, blocks=frozenset({"gate"}))])

    async def probe(self, found: Finding) -> None:
        self.found = found
        await self.health.probe("state")

    def pushed(self) -> list[str]:
        return [one.check for one in self.health.blocking("gate", pushed=True)]

    async def _probe(self) -> Finding:
        return self.found


async def test_what_a_probe_finds_is_not_pushed() -> None:
    picture = Picture()
    assert picture.pushed() == []
    await picture.probe(GONE)
    assert picture.pushed() == []
    assert not picture.health.ready("gate")


async def test_what_is_reported_is_pushed_until_it_is_otherwise() -> None:
    picture = Picture()
    await picture.probe(Finding.ok("durable"))
    picture.health.report("state", GONE)
    assert picture.pushed() == ["state"]
    await picture.probe(GONE)
    assert picture.pushed() == ["state"], "a probe that finds the same takes nothing back"
    await picture.probe(Finding.ok("durable"))
    assert picture.pushed() == []
    await picture.probe(GONE)
    assert picture.pushed() == []


async def test_what_was_announced_is_not_pushed() -> None:
    picture = Picture()
    end = picture.health.expect(["state"], "a backup", picture.clock.read().wall.replace(year=2030))
    picture.health.report("state", GONE)
    assert picture.pushed() == []
    end()
    assert picture.pushed() == ["state"]


def test_a_check_without_a_probe_blocks_until_it_is_reported() -> None:
    health = Health(MovableClock())
    health.add([Check("task.jobs", blocks=frozenset({"gate"}))])
    assert len(health.blocking("gate", pushed=True)) == 1
    health.report("task.jobs", Finding.ok("running"))
    assert health.blocking("gate", pushed=True) == []
