"""`GET /metrics`: the last sample in Prometheus' text format; asking for it reads nothing from the host.

Names and labels are put together once per entity; a scrape joins them with the values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from homelab_agent.core.spool import Scalar
from homelab_agent.metrics import names
from homelab_agent.metrics.latest import Latest
from homelab_agent.metrics.names import Metric
from homelab_agent.metrics.sample import Reading, Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_UNFIT = re.compile(r"[^a-z0-9:_]")


class Exposition:
    """Writes the text; `monotonic` tells how old the readings are."""

    def __init__(self, latest: Latest, monotonic: Callable[[], float]) -> None:
        self._latest = latest
        self._monotonic = monotonic
        self._prefixes: dict[tuple[object, ...], str] = {}
        self._body = ""
        self._body_of = -1

    def text(self) -> bytes:
        """Return all metrics; the part that a sample decides is written once per sample."""
        latest = self._latest
        if latest.quality is None:
            return b""
        if self._body_of != latest.samples:
            self._body, self._body_of = self._write(), latest.samples
        now = self._monotonic()
        parts = [
            self._body,
            _head("homelab_agent_sample_age_seconds", "gauge", "Age of a family's last reading."),
        ]
        parts += [
            f'homelab_agent_sample_age_seconds{{family="{family}"}} {now - at:.3f}\n'
            for family, at in latest.read_at.items()
        ]
        return "".join(parts).encode()

    def _write(self) -> str:
        parts: list[str] = []
        for family, readings in self._latest.families.items():
            for metric in names.METRICS[family]:
                if "{key}" in metric.name:
                    for reading in readings:
                        self._add(parts, family, _named(metric, reading.entity.key), [reading])
                else:
                    self._add(parts, family, metric, readings)
        parts += self._own()
        if len(self._prefixes) > 10 * len(parts):  # entities that come and go
            self._prefixes.clear()
        return "".join(parts)

    def _add(self, parts: list[str], family: str, metric: Metric, readings: Sequence[Reading]) -> None:
        lines: list[str] = []
        for reading in readings:
            values, known = reading.values, self._prefixes
            for column, labels in metric.columns:
                value = values.get(column)
                if value is None:
                    continue
                key = (metric.name, labels, reading.entity.id, values.get("device"), values.get("image"))
                if (prefix := known.get(key)) is None:
                    prefix = known[key] = _prefix(metric.name, labels, _labels(family, metric, reading))
                lines.append(prefix)
                lines.append(_number(value, metric.divisor))
        if lines:
            parts.append(_head(metric.name, metric.type, metric.help))
            parts += lines

    def _own(self) -> list[str]:
        latest = self._latest
        quality = latest.quality
        assert quality is not None  # noqa: S101 - asked by text()
        name = "homelab_agent_collector"
        available = {
            collector: outcome
            for collector, outcome in quality.collectors.items()
            if outcome[0] is not Status.NOT_AVAILABLE
        }
        return [
            _single("homelab_agent_samples_total", "counter", "Samples taken.", latest.samples),
            _single("homelab_agent_ticks_skipped_total", "counter", "Samples missed.", latest.skipped),
            _single("homelab_agent_tick_late_seconds", "gauge", "Last sample's lateness.", quality.late_ms / 1000),
            _single("homelab_agent_sample_seconds", "gauge", "Last sample's time.", quality.total_ms / 1000),
            _single(
                "node_timex_sync_status",
                "gauge",
                "Whether the clock is kept.",
                int(quality.clock_synchronised),
            ),
            _head(f"{name}_seconds", "gauge", "Time of a collector's last reading."),
            *(f'{name}_seconds{{collector="{one}"}} {ms / 1000:.6f}\n' for one, (_, ms) in available.items()),
            _head(f"{name}_success", "gauge", "Whether a collector's last reading succeeded."),
            *(
                f'{name}_success{{collector="{one}"}} {int(status is Status.OK)}\n'
                for one, (status, _) in available.items()
            ),
        ]


def _labels(family: str, metric: Metric, reading: Reading) -> str:
    labels = {name: source(reading) for name, source in _LABELS.get(family, {}).items()}
    if family == "unit" and metric.type == "counter":  # as node_exporter has it
        del labels["type"]
    return ",".join(f'{name}="{_escaped(str(value))}"' for name, value in labels.items())


def _value(column: str) -> Callable[[Reading], Scalar]:
    return lambda reading: reading.values[column]


def _key(reading: Reading) -> Scalar:
    return reading.entity.key


def _label(reading: Reading) -> Scalar:
    return reading.entity.label


def _chip(reading: Reading) -> str:
    """Return node_exporter's name of a hwmon chip: the last two parts of its device's path."""
    return "_".join(_UNFIT.sub("_", part.lower()) for part in str(reading.values["device"]).split("/")[-2:])


_DISK = {"device": _value("device")}
_SENSOR = {"chip": _chip, "sensor": _value("input")}
_LABELS: Mapping[str, Mapping[str, Callable[[Reading], Scalar]]] = {
    "cpu_core": {"cpu": _key},
    "frequency": {"cpu": _key},
    "disk": _DISK,
    "raid": _DISK,
    "smart": _DISK,
    "network": {"device": _label},
    "filesystem": {**_DISK, "fstype": _value("type"), "mountpoint": _label},
    "forecast": {"mountpoint": _label},
    "temperature": _SENSOR,
    "fan": _SENSOR,
    "container": {"name": _label, "image": _value("image")},
    "unit": {"name": _label, "type": _value("type")},
    "probe": {"probe": _label, "target": _value("target")},
}
"""What tells the lines of a family apart."""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _prefix(name: str, labels: str, more: str) -> str:
    both = ",".join(part for part in (more, labels) if part)
    return f"{name}{{{both}}} " if both else f"{name} "


def _named(metric: Metric, key: str) -> Metric:
    return Metric(metric.name.format(key=key), metric.type, metric.help.format(key=key), metric.columns, metric.divisor)


def _number(value: Scalar, divisor: int) -> str:
    if isinstance(value, bool):
        return "1\n" if value else "0\n"
    if divisor != 1 and isinstance(value, int | float):
        value = value // divisor if isinstance(value, int) else value / divisor
    return f"{value}\n"


def _head(name: str, kind: str, text: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def _single(name: str, kind: str, text: str, value: float) -> str:
    return f"{_head(name, kind, text)}{name} {value}\n"
