"""All collectors of a host, asked one after the other in one lane; one that fails or hangs is marked.

One that hangs delays those after it by its deadline, once: it is not asked again until it has returned.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from homelab_agent.core import journal
from homelab_agent.core.spool import Scalar
from homelab_agent.metrics.collectors import Collector
from homelab_agent.metrics.collectors.agent import Agent
from homelab_agent.metrics.collectors.containers import Containers
from homelab_agent.metrics.collectors.cpu import Cpu
from homelab_agent.metrics.collectors.disk import Disk
from homelab_agent.metrics.collectors.filesystem import Filesystem
from homelab_agent.metrics.collectors.frequency import Frequency
from homelab_agent.metrics.collectors.load import Load, Pressure
from homelab_agent.metrics.collectors.memory import Memory
from homelab_agent.metrics.collectors.network import Network
from homelab_agent.metrics.collectors.raid import Raid
from homelab_agent.metrics.collectors.sensors import Sensors
from homelab_agent.metrics.collectors.throttling import Throttling
from homelab_agent.metrics.collectors.units import Units
from homelab_agent.metrics.entity import legible
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.lane import Call, Lane, Outcome
from homelab_agent.metrics.sample import Families, Reading, Status
from homelab_agent.metrics.settings import MetricsSettings
from homelab_agent.metrics.ticker import Tick

_ANSWERS = {Status.OK, Status.NOT_AVAILABLE}

log = journal.logger("metrics")


@dataclass(frozen=True, slots=True)
class Taken:
    """What the collectors gave for one tick, and each one's status and milliseconds.

    `gone` are families that one gave before, and that the host has none of any more.
    """

    families: Families
    collectors: Mapping[str, tuple[Status, float]]
    seconds: float
    clock_synchronised: bool
    gone: frozenset[str] = frozenset()


class Collection:
    """Asks the fast collectors at every tick, the slow ones when a multiple of `slow_interval` has passed.

    `trouble` says in words what did not answer the last time it was asked, by collector, mount or chip; `lacking` what
    the host lacks, by collector. `unnamed` is set when there are containers whose names are not known.
    """

    def __init__(self, host: Host, settings: MetricsSettings, *more: Collector) -> None:
        """`more` are asked beside those of the host itself."""
        self.settings = settings
        self._host = host
        self._agent = Agent(host, settings)
        self._filesystem = Filesystem(host, settings)
        self._sensors = Sensors(host, settings)
        self.containers = Containers(host, settings)
        self.unnamed = asyncio.Event()
        self.collectors: Sequence[Collector] = (
            Cpu(host, settings),
            Memory(host, settings),
            Load(host, settings),
            Pressure(host, settings),
            Disk(host, settings),
            Network(host, settings),
            self._agent,
            Frequency(host, settings),
            Throttling(host, settings),
            Raid(host, settings),
            Units(host, settings),
            self.containers,
            self._sensors,
            self._filesystem,
            *more,
        )
        self._lane: Lane[Families] = Lane("metrics")
        self._slow_slot: int | None = None
        self._given: dict[str, set[str]] = {}
        self._failing: dict[str, str] = {}
        self.trouble: dict[str, str] = {}
        self.lacking: dict[str, str] = {}

    @property
    def clock_synchronised(self) -> bool:
        """Whether something kept the host's clock right when the last sample was taken."""
        return self._agent.clock_synchronised

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings."""
        self.settings = settings
        for collector in self.collectors:
            collector.adopt(settings)

    def notice(self, **facts: Scalar) -> None:
        """Set what the family `agent` shall say of things that no collector can read."""
        self._agent.notice = facts

    @property
    def patience(self) -> float:
        """How long one look takes if every collector hangs, in seconds."""
        return self.settings.collector_deadline * sum(one.patience for one in self.collectors)

    async def take(self, tick: Tick) -> Taken:
        """Ask every collector whose turn it is."""
        began = self._host.monotonic()
        slow_slot = math.floor(tick.due.timestamp() / self.settings.slow_interval)
        turn = [one for one in self.collectors if not one.slow or slow_slot != self._slow_slot]
        self._slow_slot = slow_slot
        deadline = self.settings.collector_deadline
        outcomes = await self._lane.gather({one.name: Call(one.collect, deadline * one.patience) for one in turn})
        self._note(outcomes)
        if self.containers.unknown:
            self.unnamed.set()
        families: dict[str, Sequence[Reading]] = {}
        for name in outcomes:
            families.update(outcomes[name].value or {})
        return Taken(
            families,
            {one.name: (outcomes[one.name].status, round(outcomes[one.name].ms, 3)) for one in turn},
            self._host.monotonic() - began,
            self.clock_synchronised,
            self._gone(outcomes),
        )

    def _gone(self, outcomes: Mapping[str, Outcome[Families]]) -> frozenset[str]:
        """Return the families that are not given any more; who fails or hangs says nothing of what there is."""
        gone: set[str] = set()
        for name, outcome in outcomes.items():
            if outcome.status in _ANSWERS:
                given = set(outcome.value or {})
                gone |= self._given.get(name, set()) - given
                self._given[name] = given
        return frozenset(gone)

    def _note(self, outcomes: Mapping[str, Outcome[Families]]) -> None:
        """Remember what is wrong, and log what changed."""
        for name, outcome in outcomes.items():
            if outcome.status in _ANSWERS:
                self._failing.pop(name, None)
                self.lacking.pop(name, None)
                if outcome.cause:
                    self.lacking[name] = outcome.cause
                elif name == self.containers.name and self.containers.lacking:
                    self.lacking[name] = self.containers.lacking
            else:
                self._failing[name] = outcome.cause
        mounts = {legible(point): cause for point, cause in self._filesystem.silent.items()}
        trouble = {**self._failing, **self._sensors.silent, **mounts}
        for what in trouble.keys() - self.trouble.keys():
            log.warning("metrics.no_answer", of=what, cause=trouble[what])
        for what in self.trouble.keys() - trouble.keys():
            log.info("metrics.answers_again", of=what)
        self.trouble = trouble
