"""How fast each core runs, and how often heat has slowed it (Documentation/admin-guide/pm/cpufreq.rst)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from homelab_agent.metrics import rates
from homelab_agent.metrics.entity import Entity
from homelab_agent.metrics.host import File, Host, NotAvailable, number
from homelab_agent.metrics.sample import Families, Reading, Values
from homelab_agent.metrics.settings import MetricsSettings

_PER_KILOHERTZ = 1000


@dataclass(frozen=True, slots=True)
class _Core:
    entity: Entity
    current: File
    throttles: File
    package_throttles: File
    fixed: Values


class Frequency:
    """Family `frequency`: known by the core's number. A virtual machine is told neither of the two."""

    name = "frequency"
    slow = True
    patience = 1.0

    def __init__(self, host: Host, settings: MetricsSettings) -> None:
        self._host = host
        self._settings = settings
        self._cores: dict[str, _Core] = {}
        self._counters: rates.Counters[str] = rates.Counters()

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings."""
        self._settings = settings

    def collect(self) -> Families:
        """Read what each core's governor says, and its thermal counters."""
        self._discover()
        found = {key: (core.current.number(), core.throttles.number()) for key, core in self._cores.items()}
        now = self._host.monotonic()
        counters = {key: (throttles,) for key, (_, throttles) in found.items()}
        grown = self._counters.observe(counters, now, interval=self._settings.slow_step)
        readings = []
        for key, (kilohertz, throttles) in found.items():
            if kilohertz is None and throttles is None:  # a core that is off line
                continue
            core = self._cores[key]
            values: Values = {
                **core.fixed,
                "hertz": None if kilohertz is None else kilohertz * _PER_KILOHERTZ,
                "throttles": throttles,
                "package_throttles": core.package_throttles.number(),
                "throttles_per_s": rates.per_second(grown[key], 1)[0],
                "reset": grown[key].reset,
            }
            readings.append(Reading(core.entity, values))
        if not readings:
            raise NotAvailable(what="CPU frequency to read (a virtual machine has none)")
        return {"frequency": readings}

    def _discover(self) -> None:
        """Find the cores; there are no more of them later, though one may go off line."""
        if self._cores:
            return
        for directory in sorted(self._host.path("/sys/devices/system/cpu").glob("cpu[0-9]*")):
            scaling, thermal = directory / "cpufreq", directory / "thermal_throttle"
            if scaling.exists() or thermal.exists():
                key = directory.name.removeprefix("cpu")
                self._cores[key] = _Core(
                    self._host.entities.get("frequency", key),
                    File(scaling / "scaling_cur_freq"),
                    File(thermal / "core_throttle_count"),
                    File(thermal / "package_throttle_count"),
                    {
                        "minimum_hertz": _hertz(scaling / "cpuinfo_min_freq"),
                        "maximum_hertz": _hertz(scaling / "cpuinfo_max_freq"),
                    },
                )


def _hertz(path: Path) -> int | None:
    kilohertz = number(path)
    return None if kilohertz is None else kilohertz * _PER_KILOHERTZ
