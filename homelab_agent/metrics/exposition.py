"""`GET /metrics`: the last sample in Prometheus' text format; asking for it reads nothing from the host.

Names and labels are put together once for what the labels say; a scrape joins them with the values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from homelab_agent.core.spool import Scalar
from homelab_agent.metrics import names
from homelab_agent.metrics.latest import Latest
from homelab_agent.metrics.names import Label, Metric
from homelab_agent.metrics.sample import Status, Values

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Exposition:
    """Writes the text; `monotonic` tells how old the readings are."""

    def __init__(self, latest: Latest, monotonic: Callable[[], float]) -> None:
        self._latest = latest
        self._monotonic = monotonic
        self._prefixes: dict[tuple[str, str, tuple[Scalar, ...]], str] = {}
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
            labels = names.LABELS.get(family, ())
            told = [(one, tuple([label.source(one) for label in labels])) for one in readings]
            for metric in names.METRICS[family]:
                if "{key}" in metric.name:
                    for one, sources in told:
                        self._add(parts, labels, _named(metric, one.entity.key), [(one.values, sources)])
                else:
                    self._add(parts, labels, metric, [(one.values, sources) for one, sources in told])
        parts += self._own()
        if len(self._prefixes) > 10 * len(parts):  # entities that come and go
            self._prefixes.clear()
        return "".join(parts)

    def _add(
        self,
        parts: list[str],
        labels: Sequence[Label],
        metric: Metric,
        told: Sequence[tuple[Values, tuple[Scalar, ...]]],
    ) -> None:
        """Add a metric's lines; `told` is each reading's values, with what its labels are made of."""
        lines: list[str] = []
        known = self._prefixes
        for values, sources in told:
            for column, more in metric.columns:
                value = values.get(column)
                if value is None:
                    continue
                key = (metric.name, more, sources)
                if (prefix := known.get(key)) is None:
                    prefix = known[key] = _prefix(metric, more, labels, sources)
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


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _prefix(metric: Metric, more: str, labels: Sequence[Label], sources: Sequence[Scalar]) -> str:
    """Return a line without its value; its text depends on nothing but what is given here."""
    written = [
        f'{label.name}="{_escaped(label.written(source))}"'
        for label, source in zip(labels, sources, strict=True)
        if label.name != metric.without
    ]
    both = ",".join(written + ([more] if more else []))
    return f"{metric.name}{{{both}}} " if both else f"{metric.name} "


def _named(metric: Metric, key: str) -> Metric:
    return replace(metric, name=metric.name.format(key=key), help=metric.help.format(key=key))


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
