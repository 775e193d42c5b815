"""A chart's values become the few paths, lines and words of its drawing; pure functions, no markup.

The plot is `WIDTH` by `HEIGHT` units, origin top left, and is stretched to its place by the browser. Every
point that is drawn is a measured one, the least and the greatest of a stretch of time: a peak stays a peak.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, TypeAlias

from homelab_agent.web.page import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from homelab_agent.core.capability import Chart, Series

WIDTH = 1000
HEIGHT = 100
SPAN = timedelta(hours=1)
MAX_POINTS = 180
"""Bound of the points drawn per unbroken hour."""

TICK = timedelta(minutes=15)
_TICK_MARGIN = 50
"""Units from the edge within which a tick's label would be cut off."""

_QUIET_RATE = 16 * 1024.0
"""Bytes per second up to which a rate's axis reaches at least: a quiet line shall look quiet."""

_PAUSE = 3.5
"""A silence longer than this many usual steps is a gap, also when nobody wrote None."""


Run: TypeAlias = list[tuple[float, float]]
"""Points without a gap between them: (seconds since the epoch, value)."""


@dataclass(frozen=True, slots=True)
class Level:
    """A horizontal line: height in units of the plot, and its value in words."""

    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A time on the axis: place in units of the plot, and the local time of day."""

    x: float
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """One series: `path` and, closed to the base, `area` in SVG's path syntax; `end` is the newest point."""

    label: str
    path: str
    area: str
    end: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Drawing:
    """All that the template needs; `description` says the drawing in words."""

    title: str
    now: str
    description: str
    lines: Sequence[Line]
    levels: Sequence[Level]
    ticks: Sequence[Tick]
    is_empty: bool


@dataclass(frozen=True, slots=True)
class Scale:
    """The vertical axis: its ends, in the chart's unit."""

    low: float
    high: float

    def y(self, value: float) -> float:
        """Return the height of `value` in units of the plot; one beyond the ends is drawn at the end."""
        share = (value - self.low) / (self.high - self.low)
        return HEIGHT * (1 - min(max(share, 0.0), 1.0))


def draw(chart: Chart, *, now: datetime, zone: tzinfo | None = None) -> Drawing:
    """Return the drawing of the last hour before `now`."""
    end = now.timestamp()
    start = end - SPAN.total_seconds()
    all_runs = [unbroken(series.points, start, end) for series in chart.series]
    scale = fit(chart.unit, (value for runs in all_runs for run in runs for _, value in run), chart.maximum)
    lines = [
        _line(series.label, [thin(run) for run in runs], scale, start)
        for series, runs in zip(chart.series, all_runs, strict=True)
    ]
    return Drawing(
        title=chart.title,
        now=chart.now,
        description=describe(chart, all_runs),
        lines=lines,
        levels=levels(scale, chart.unit),
        ticks=ticks(now, zone),
        is_empty=not any(all_runs),
    )


def unbroken(points: Iterable[tuple[datetime, float | None]], start: float, end: float) -> list[Run]:
    """Cut what lies between `start` and `end` where a value is missing or not finite, or time is left out."""
    known = [(at, value) for at, value in ((time.timestamp(), value) for time, value in points) if start <= at <= end]
    longest = _PAUSE * _usual_step([at for at, _ in known])
    runs: list[Run] = []
    run: Run = []
    for at, value in known:
        if value is None or not math.isfinite(value):
            run = []
            continue
        if not run or at - run[-1][0] > longest:
            runs.append(run := [])
        run.append((at, value))
    return runs


def _usual_step(times: Sequence[float]) -> float:
    steps = sorted(after - before for before, after in itertools.pairwise(times))
    return steps[len(steps) // 2] if steps else math.inf


def thin(run: Run) -> Run:
    """Keep the least and the greatest point of each stretch of time.

    The stretches are anchored to the clock, not to the window, so that the line moves without a shimmer.
    """
    stretch = 2 * SPAN.total_seconds() / MAX_POINTS
    kept: Run = []
    bucket: Run = []
    number = -1
    for point in run:
        if (at := int(point[0] // stretch)) != number:
            kept += _extremes(bucket)
            bucket, number = [], at
        bucket.append(point)
    return kept + _extremes(bucket)


def _extremes(bucket: Run) -> Run:
    if len(bucket) < 3:
        return bucket
    low = min(bucket, key=lambda point: point[1])
    high = max(bucket, key=lambda point: point[1])
    return [low] if low is high else sorted((low, high))


def fit(unit: str, values: Iterable[float], maximum: float | None) -> Scale:
    """Return an axis with round ends that holds all `values` and, if it is given, ends at `maximum`."""
    found = list(values)
    highest = max(found, default=0.0)
    match unit:
        case "percent":
            return Scale(0, maximum or max(100.0, math.ceil(highest / 10) * 10.0))
        case "bytes":
            return Scale(0, maximum or _round_up(highest, at_least=1024.0))
        case "bytes_per_second":
            return Scale(0, maximum or _round_up(highest, at_least=_QUIET_RATE))
        case "celsius":
            low = math.floor(min(found, default=20.0) / 10) * 10.0
            return Scale(low, max(maximum or 0.0, math.ceil(highest / 10) * 10.0, low + 20))
    message = f"no axis for the unit {unit!r}"
    raise ValueError(message)


def _round_up(value: float, *, at_least: float) -> float:
    """Return the next power of two: a round number in binary units, and so is its half."""
    return max(at_least, 2.0 ** math.ceil(math.log2(value))) if value > 0 else at_least


def levels(scale: Scale, unit: str) -> list[Level]:
    """Return the top, the middle and the base of the axis; a base of zero needs no words."""
    values = (scale.high, (scale.low + scale.high) / 2, scale.low)
    return [Level(scale.y(value), words.amount(value, unit) if value else "") for value in values]


def ticks(now: datetime, zone: tzinfo | None = None) -> list[Tick]:
    """Return the quarters of an hour before `now` that have room for their label."""
    local = now.astimezone(zone)
    since = timedelta(minutes=local.minute % 15, seconds=local.second, microseconds=local.microsecond)
    marks = []
    for count in range(SPAN // TICK + 1):
        age = since + count * TICK
        x = WIDTH * (1 - age / SPAN)
        if _TICK_MARGIN <= x <= WIDTH - _TICK_MARGIN:
            marks.append(Tick(round(x, 1), f"{(now - age).astimezone(zone):%H:%M}"))
    return marks[::-1]


def _line(label: str, runs: Sequence[Run], scale: Scale, start: float) -> Line:
    zoom = WIDTH / SPAN.total_seconds()
    base = scale.y(scale.low)
    path: list[str] = []
    area: list[str] = []
    end = None
    for run in runs:
        places = [((at - start) * zoom, scale.y(value)) for at, value in run]
        trace = "L".join(f"{x:.0f} {y:.1f}" for x, y in places)
        path.append(f"M{trace}" if len(places) > 1 else f"M{trace}h0")
        area.append(f"M{places[0][0]:.0f} {base:.0f}L{trace}V{base:.0f}z")
        end = places[-1]
    return Line(label, "".join(path), "".join(area), (round(end[0], 1), round(end[1], 1)) if end else None)


def describe(chart: Chart, all_runs: Sequence[Sequence[Run]]) -> str:
    """Return the drawing in words: the present value, each series' least and greatest, and any gaps."""
    if not any(all_runs):
        return "No values yet."
    sentences = [f"Now {chart.now}."] if chart.now else []
    for series, runs in zip(chart.series, all_runs, strict=True):
        sentences.append(_extent(series, runs, chart.unit, alone=len(chart.series) == 1))
    if any(len(runs) > 1 for runs in all_runs):
        sentences.append("Some values are missing in between.")
    return " ".join(sentences)


def _extent(series: Series, runs: Sequence[Run], unit: str, *, alone: bool) -> str:
    values = [value for run in runs for _, value in run]
    whose = "" if alone else f"{series.label}: "
    if not values:
        return f"{whose}no values yet."
    low, high = words.amount(min(values), unit), words.amount(max(values), unit)
    text = f"{whose}in the last hour between {low} and {high}."
    return text[0].upper() + text[1:]
