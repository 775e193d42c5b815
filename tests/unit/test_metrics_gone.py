"""What is gone is shown no more, and what cannot be asked is not said to be well."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from homelab_agent.core.clock import Drift, Instant
from homelab_agent.core.foundation import Foundation
from homelab_agent.core.health import State as Standing
from homelab_agent.metrics.collection import Collection
from homelab_agent.metrics.collectors.units import Seen, Units
from homelab_agent.metrics.exposition import Exposition
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.latest import Latest
from homelab_agent.metrics.sample import Status
from homelab_agent.metrics.service import Service
from homelab_agent.metrics.settings import MetricsSettings
from homelab_agent.metrics.ticker import Tick
from tests.clock import MovableClock
from tests.machines import bare_metal, container, raspberry, with_groups
from tests.recorded import Recorded
from tests.unit.test_metrics_exposition import quality
from tests.unit.test_metrics_service import base

__all__ = ["base"]

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ID = "1" * 64


def stop(recorded: Recorded) -> None:
    for directory in list(recorded.root.rglob(ID)):
        shutil.rmtree(directory, ignore_errors=True)


class Shown:
    """All collectors on a recorded machine, and what `/metrics` says after each sample."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded
        self.collection = Collection(recorded.host, MetricsSettings())
        self._latest = Latest()

    async def lines(self, begin: str) -> list[str]:
        """Take a sample a minute later; return the lines that begin so."""
        self._recorded.now += 60
        at = NOON + timedelta(seconds=self._recorded.now)
        taken = await self.collection.take(
            Tick(at, Instant(at, self._recorded.now, self._recorded.now), 0, Drift(0, 0))
        )
        assert taken.collectors["container"][0] in {Status.OK, Status.NOT_AVAILABLE}
        said = replace(quality(), collectors=taken.collectors)
        self._latest.take(taken.families, said, self._recorded.now, taken.gone)
        text = Exposition(self._latest, lambda: self._recorded.now).text().decode()
        return [line for line in text.splitlines() if line.startswith(begin)]


async def test_after_the_last_container_has_stopped_none_is_shown(tmp_path: Path) -> None:
    recorded = with_groups(raspberry(tmp_path))
    shown = Shown(recorded)
    shown.collection.containers.learn({}, frozenset({ID}))
    container(recorded, f"docker/{ID}")
    assert len(await shown.lines("container_cpu_usage_seconds_total")) == 1
    stop(recorded)
    assert await shown.lines("container_") == []
    assert await shown.lines('homelab_agent_sample_age_seconds{family="container"}') == []


async def test_what_fails_is_shown_as_it_was_with_its_age(tmp_path: Path) -> None:
    recorded = bare_metal(tmp_path)
    shown = Shown(recorded)
    [was] = await shown.lines("node_load1 ")
    recorded.write("proc/loadavg", "what no kernel writes\n")
    assert await shown.lines("node_load1 ") == [was]
    assert await shown.lines('homelab_agent_collector_success{collector="load"}') == [
        'homelab_agent_collector_success{collector="load"} 0'
    ]
    assert await shown.lines('homelab_agent_sample_age_seconds{family="load"}') == [
        'homelab_agent_sample_age_seconds{family="load"} 180.000'
    ]


async def test_units_of_which_nothing_was_heard_are_not_said_to_be_well(base: Foundation, tmp_path: Path) -> None:
    clock = base.clock
    assert isinstance(clock, MovableClock)
    service = Service(MetricsSettings(), base)
    found = Units(Host("here", tmp_path), MetricsSettings()).readings(
        {"cron.service": Seen("active", "running", "", 0)}
    )
    service._latest.take({"unit": found}, quality(), clock.read().monotonic)
    assert (await service.units()).detail == "no unit of 1 has failed"
    service._collection.trouble = {"unit": "the bus is silent"}
    await clock.advance(151)
    finding = await service.units()
    assert (finding.state, finding.detail) == (Standing.DEGRADED, "not known for 151 s: the bus is silent")
