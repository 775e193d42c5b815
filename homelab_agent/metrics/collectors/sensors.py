"""Temperatures and fans, from the kernel's hwmon (Documentation/hwmon/sysfs-interface.rst).

Chips are looked for once and when one comes or goes; labels and limits are kept; only `temp*_input` and `fan*_input`
are read again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event

from homelab_agent.metrics.entity import Entity
from homelab_agent.metrics.host import File, Host, NotAvailable, number, text
from homelab_agent.metrics.lane import Call, Lane
from homelab_agent.metrics.sample import Families, Reading, Status, Values
from homelab_agent.metrics.settings import MetricsSettings, shown


@dataclass(frozen=True, slots=True)
class _Kind:
    """Sensors of one family: its files begin with `prefix` and count in `unit`ths; `limits` by column, by file end."""

    family: str
    prefix: str
    column: str
    unit: int
    limits: Mapping[str, str]


_KINDS = (
    _Kind("temperature", "temp", "celsius", 1000, {"high_celsius": "max", "critical_celsius": "crit"}),
    _Kind("fan", "fan", "rpm", 1, {"low_rpm": "min"}),
)


@dataclass(frozen=True, slots=True)
class _Sensor:
    kind: _Kind
    entity: Entity
    input: File
    fixed: Values


class Sensors:
    """Families `temperature` and `fan`. A sensor is known by its chip, the chip's device and its label, not by hwmonN.

    Chips are read one after the other on a lane of their own: one whose device does not answer delays none.
    """

    name = "sensors"
    slow = True
    patience = 4.0

    def __init__(self, host: Host, settings: MetricsSettings) -> None:
        self._host = host
        self._settings = settings
        self._lane: Lane[Sequence[tuple[str, Reading]]] = Lane("metrics sensors")
        self._directories: frozenset[str] = frozenset()
        self._looked_by: MetricsSettings | None = None
        self._chips: dict[str, list[_Sensor]] = {}
        self.silent: dict[str, str] = {}

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings."""
        self._settings = settings

    def collect(self) -> Families:
        """Read every sensor; a chip that does not answer is left out, and named in `silent`."""
        self._discover()
        if not self._chips:
            raise NotAvailable(what="sensors to show (a virtual machine has none)")
        done = Event()
        deadline = self._settings.collector_deadline
        calls = {chip: Call(partial(_read, sensors), deadline) for chip, sensors in self._chips.items()}
        outcomes = self._lane.wait(self._lane.submit(calls, done.set), done)
        self.silent = {chip: outcome.cause for chip, outcome in outcomes.items() if outcome.status is not Status.OK}
        found = [one for outcome in outcomes.values() for one in outcome.value or ()]
        return {kind.family: [reading for family, reading in found if family == kind.family] for kind in _KINDS}

    def _discover(self) -> None:
        settings, base = self._settings, self._host.path("/sys/class/hwmon")
        try:
            directories = frozenset(path.name for path in base.iterdir())
        except OSError:
            directories = frozenset()
        if settings is self._looked_by and directories == self._directories:
            return
        self._chips = {}
        for name in sorted(directories):
            self._look_at(base / name, settings)
        self._directories, self._looked_by = directories, settings

    def _look_at(self, directory: Path, settings: MetricsSettings) -> None:
        """Find a chip's sensors without reading a value: that may disturb its bus or wake a disk."""
        chip = text(directory / "name")
        device = _device(directory)
        for kind in _KINDS:
            labels: set[str] = set()
            for path in sorted(directory.glob(f"{kind.prefix}*_input")):
                name = path.name.removesuffix("_input")
                label = text(directory / f"{name}_label") or name
                if not shown(f"{chip} {label}", settings.sensors_include, settings.sensors_exclude):
                    continue
                label = f"{label} {name}" if label in labels else label
                labels.add(label)
                entity = self._host.entities.get(kind.family, f"{chip} {device} {label}", f"{chip} {label}")
                fixed: Values = {"device": device, "input": name}
                for column, end in kind.limits.items():
                    fixed[column] = _of(kind, number(directory / f"{name}_{end}"))
                self._chips.setdefault(f"{chip} {device}", []).append(_Sensor(kind, entity, File(path), fixed))


def _device(directory: Path) -> str:
    """Return the chip's place among the host's devices, without hwmonN: that changes from boot to boot."""
    parts = directory.resolve().parts
    at = max((at for at, part in enumerate(parts) if part == "devices"), default=-1)
    return "/".join(part for part in parts[at + 1 :] if not part.startswith("hwmon")) if at >= 0 else "virtual"


def _of(kind: _Kind, count: int | None) -> float | None:
    return None if count is None else count / kind.unit


def _read(sensors: Sequence[_Sensor]) -> Sequence[tuple[str, Reading]]:
    """Read one chip; a sensor that has nothing to say now (a device asleep) is left out."""
    readings = []
    for sensor in sensors:
        if (count := sensor.input.number()) is None:
            continue
        values: Values = {**sensor.fixed, sensor.kind.column: _of(sensor.kind, count)}
        readings.append((sensor.kind.family, Reading(sensor.entity, values)))
    return readings
