"""Docker's containers: what they use of CPU, memory and disks, read from control groups; Docker is not asked for it.

Only what a container is called is asked of Docker, by the root half, when there is one that is not known yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from homelab_agent.metrics import cgroups, rates
from homelab_agent.metrics.cgroups import Group, Hierarchy, Usage
from homelab_agent.metrics.host import Host, NotAvailable
from homelab_agent.metrics.roster import SHORT, Container
from homelab_agent.metrics.sample import Families, Reading, Values
from homelab_agent.metrics.settings import MetricsSettings, shown

_MOST_LIVES = 1000
NO_MEMORY = (
    "What containers use of memory is not counted by this kernel; boot it with cgroup_enable=memory (on a Raspberry Pi "
    "in /boot/firmware/cmdline.txt)."
)


@dataclass(frozen=True, slots=True)
class _Life:
    """How often who bears a name has begun anew, and which group it is in now."""

    instance: int
    restarts: int = 0


class Containers:
    """Family `container`: known by project, service and number of Compose, else by name, so that one made anew goes on.

    `unknown` holds the ids of those that run and have no name yet: they are told of once they have one. `images` says
    what those run that have one. `lacking` says what of them the kernel does not count.
    """

    name = "container"
    slow = True
    patience = 2.0

    def __init__(self, host: Host, settings: MetricsSettings) -> None:
        self._host = host
        self._settings = settings
        self._hierarchy: Hierarchy | None = None
        self._named: Mapping[str, Container] = {}
        self._nameless: frozenset[str] = frozenset()
        self._lives: dict[str, _Life] = {}
        self._counters: rates.Counters[int] = rates.Counters()
        self.unknown: frozenset[str] = frozenset()
        self.images: Mapping[str, str] = {}
        self.lacking = ""

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings."""
        self._settings = settings

    def learn(self, named: Mapping[str, Container], nameless: frozenset[str]) -> None:
        """Take what containers are called, by id, and which have no name to be had: those go by their ids."""
        self._named, self._nameless = named, nameless

    def collect(self) -> Families:
        """Look which containers run, and what each has used."""
        if self._hierarchy is None:
            self._hierarchy = cgroups.of(self._host)
        hierarchy = self._hierarchy
        groups = hierarchy.groups()
        named = self._named
        self.unknown = frozenset(one.id for one in groups if one.id not in named)
        self.lacking = "" if hierarchy.has_memory or not groups else NO_MEMORY
        if not groups:
            raise NotAvailable(what="container of Docker that runs")
        bearers = self._bearers(groups, named)
        self.images = {name: f"{one.image} {one.image_id}".strip() for name, (_, one) in bearers.items() if one.image}
        awaited = [one for one in groups if one.id in self.unknown - self._nameless]  # they will have a name, and rates
        looked_at = [*(group for group, _ in bearers.values()), *awaited]
        used = {group: usage for group in looked_at if (usage := hierarchy.usage(group)) is not None}
        now = self._host.monotonic()
        counters = {group.instance: _counters(usage) for group, usage in used.items()}
        grown = self._counters.observe(counters, now, interval=self._settings.slow_step)
        readings = []
        for name, (group, container) in bearers.items():
            if (usage := used.get(group)) is not None:
                values = _values(container, usage, grown[group.instance])
                values.update(self._life(name, group.instance, grown[group.instance]))
                readings.append(Reading(self._host.entities.get("container", name), values))
        if len(self._lives) > _MOST_LIVES:  # names that Docker makes up come and go
            self._lives = {name: life for name, life in self._lives.items() if name in bearers}
        return {"container": readings}

    def _bearers(self, groups: Sequence[Group], named: Mapping[str, Container]) -> dict[str, tuple[Group, Container]]:
        """Return who bears each name to show: the newest of two, as the old one is still there when it is replaced."""
        found: dict[str, tuple[Group, Container]] = {}
        for group in sorted(groups, key=lambda one: one.instance):
            container = named.get(group.id)
            if container is None and group.id in self._nameless:
                container = Container(group.id, group.id[:SHORT], "")
            if container is None:
                continue
            name = container.identity
            if shown(name, self._settings.containers_include, self._settings.containers_exclude):
                found[name] = (group, container)
        return found

    def _life(self, name: str, instance: int, grown: rates.Growth) -> Values:
        before = self._lives.get(name)
        anew = before is not None and before.instance != instance
        life = _Life(instance, (before.restarts if before is not None else 0) + anew)
        self._lives[name] = life
        return {
            "restarts": life.restarts,
            "restarted": None if before is None else int(anew),
            "reset": anew or grown.reset,
        }


def _counters(usage: Usage) -> tuple[float | None, ...]:
    transfer = usage.transfer
    return (usage.cpu_s, *((None, None) if transfer is None else (transfer.read_bytes, transfer.written_bytes)))


def _values(container: Container, usage: Usage, grown: rates.Growth) -> Values:
    _, read_per_s, written_per_s = rates.per_second(grown, 3)
    spent = None if grown.deltas is None else grown.deltas[0]
    used, limit, transfer = usage.memory_bytes, usage.memory_limit_bytes, usage.transfer
    return {
        "container_id": container.id[:SHORT],
        "image": container.image,
        "cpu_s": usage.cpu_s,
        "throttled_s": usage.throttled_s,
        "cpu_pct": None if spent is None else round(100 * spent / grown.seconds, 3),
        "memory_bytes": used,
        "memory_limit_bytes": limit,
        "memory_pct": None if used is None or not limit else round(100 * used / limit, 3),
        "swap_bytes": usage.swap_bytes,
        "oom_kills": usage.oom_kills,
        "read_bytes": None if transfer is None else transfer.read_bytes,
        "written_bytes": None if transfer is None else transfer.written_bytes,
        "reads": None if transfer is None else transfer.reads,
        "writes": None if transfer is None else transfer.writes,
        "read_bytes_per_s": read_per_s,
        "written_bytes_per_s": written_per_s,
    }
