"""Temperatures, from the kernel's hwmon (Documentation/hwmon/sysfs-interface.rst).

Chips are looked for once and when one comes or goes; labels and limits are kept; only `temp*_input` is read
again.
"""

from __future__ import annotations

from collections.abc import Sequence
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
class _Sensor:
    entity: Entity
    input: File
    high: float | None
    critical: float | None
    device: str


class Temperature:
    """Family `temperature`. A sensor is known by its chip, the chip's device and its label, not by hwmonN.

    Chips are read one after the other on a lane of their own: one whose device does not answer delays none.
    """

    name = "temperature"
    slow = True
    patience = 4.0

    def __init__(self, host: Host, settings: MetricsSettings) -> None:
        self._host = host
        self._settings = settings
        self._lane: Lane[Sequence[Reading]] = Lane("metrics sensors")
        self._directories: frozenset[str] | None = None
        self._chips: dict[str, list[_Sensor]] = {}
        self.silent: dict[str, str] = {}

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings."""
        self._settings = settings
        self._directories = None

    def collect(self) -> Families:
        """Read every sensor; a chip that does not answer is left out, and named in `silent`."""
        self._discover()
        if not self._chips:
            raise NotAvailable(what="temperature sensors to show")
        done = Event()
        deadline = self._settings.collector_deadline
        calls = {chip: Call(partial(_read, sensors), deadline) for chip, sensors in self._chips.items()}
        outcomes = self._lane.wait(self._lane.submit(calls, done.set), done)
        self.silent = {chip: outcome.cause for chip, outcome in outcomes.items() if outcome.status is not Status.OK}
        return {"temperature": [reading for outcome in outcomes.values() for reading in outcome.value or ()]}

    def _discover(self) -> None:
        base = self._host.path("/sys/class/hwmon")
        try:
            directories = frozenset(path.name for path in base.iterdir())
        except OSError:
            directories = frozenset()
        if directories == self._directories:
            return
        self._chips = {}
        for name in sorted(directories):
            self._look_at(base / name)
        self._directories = directories

    def _look_at(self, directory: Path) -> None:
        """Find a chip's sensors without reading a value: that may disturb its bus or wake a disk."""
        chip = text(directory / "name")
        device = _device(directory)
        labels: set[str] = set()
        for path in sorted(directory.glob("temp*_input")):
            prefix = path.name.removesuffix("_input")
            label = text(directory / f"{prefix}_label") or prefix
            if not shown(f"{chip} {label}", self._settings.sensors_include, self._settings.sensors_exclude):
                continue
            label = f"{label} {prefix}" if label in labels else label
            labels.add(label)
            entity = self._host.entities.get("temperature", f"{chip} {device} {label}", f"{chip} {label}")
            high, critical = _celsius(directory / f"{prefix}_max"), _celsius(directory / f"{prefix}_crit")
            self._chips.setdefault(f"{chip} {device}", []).append(_Sensor(entity, File(path), high, critical, device))


def _device(directory: Path) -> str:
    """Return the chip's place among the host's devices, without hwmonN: that changes from boot to boot."""
    parts = directory.resolve().parts
    at = max((at for at, part in enumerate(parts) if part == "devices"), default=-1)
    return "/".join(part for part in parts[at + 1 :] if not part.startswith("hwmon")) if at >= 0 else "virtual"


def _celsius(path: Path) -> float | None:
    thousandths = number(path)
    return None if thousandths is None else thousandths / 1000


def _read(sensors: Sequence[_Sensor]) -> Sequence[Reading]:
    """Read one chip; a sensor that has nothing to say now (a device asleep) is left out."""
    readings = []
    for sensor in sensors:
        try:
            celsius = int(sensor.input.read()) / 1000
        except (OSError, ValueError):
            continue
        values: Values = {
            "device": sensor.device,
            "input": sensor.input.path.name.removesuffix("_input"),
            "celsius": celsius,
            "high_celsius": sensor.high,
            "critical_celsius": sensor.critical,
        }
        readings.append(Reading(sensor.entity, values))
    return readings
