"""The last hour in memory, for the status page's charts; filled from PostgreSQL at the start."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from homelab_agent.core.capability import Chart, Series
from homelab_agent.core.foundation import Database
from homelab_agent.metrics import block
from homelab_agent.metrics.sample import Families, Reading

SPAN = timedelta(hours=1)
NO_BREAK = "\N{NO-BREAK SPACE}"
"""Joins a number and its unit."""
_APART = timedelta(seconds=9.5)
"""Samples closer together than this add nothing that a small chart could show."""
_STACKED = f"^({'|'.join(block.STACKED)})"
_SEED = """
    SELECT cpu.time, cpu.busy_pct::float8, memory.used_bytes::float8,
           disk.read::float8, disk.written::float8, network.rx::float8, network.tx::float8
      FROM cpu
      LEFT JOIN memory ON memory.time = cpu.time AND memory.host = cpu.host
      LEFT JOIN (SELECT time, sum(read_bytes_per_s) AS read, sum(written_bytes_per_s) AS written FROM disk
                  WHERE host = $1 AND time >= $2 AND device !~ $3
                 GROUP BY time) AS disk
        ON disk.time = cpu.time
      LEFT JOIN (SELECT time, sum(rx_bytes_per_s) AS rx, sum(tx_bytes_per_s) AS tx FROM network
                  WHERE host = $1 AND time >= $2 GROUP BY time) AS network
        ON network.time = cpu.time
     WHERE cpu.host = $1 AND cpu.time >= $2
     ORDER BY cpu.time"""


@dataclass(frozen=True, slots=True)
class Point:
    """What the charts show of one sample, in per cent, bytes and bytes per second."""

    at: datetime
    cpu: float | None
    memory: float | None
    read: float | None
    written: float | None
    received: float | None
    sent: float | None


class Recent:
    """The points of the last hour, at most one per ten seconds, in time order."""

    def __init__(self) -> None:
        self._points: deque[Point] = deque()
        self._memory_total: float | None = None

    def take(self, families: Families, at: datetime) -> None:
        """Take one sample. After a clock set back it replaces what lies in the future now."""
        while self._points and self._points[-1].at >= at:
            self._points.pop()
        if self._points and at - self._points[-1].at < _APART:
            return
        cpu, memory = _only(families.get("cpu")), _only(families.get("memory"))
        disks = [one for one in families.get("disk", ()) if not block.is_stacked(str(one.values["device"]))]
        interfaces = families.get("network", ())
        self._memory_total = _value(memory, "total_bytes") or self._memory_total
        self._points.append(
            Point(
                at,
                _value(cpu, "busy_pct"),
                _value(memory, "used_bytes"),
                _sum(disks, "read_bytes_per_s"),
                _sum(disks, "written_bytes_per_s"),
                _sum(interfaces, "rx_bytes_per_s"),
                _sum(interfaces, "tx_bytes_per_s"),
            )
        )
        while self._points[0].at < at - SPAN:
            self._points.popleft()

    async def seed(self, database: Database, host: str, now: datetime) -> None:
        """Fill in what was sampled before this start; raises `NeighbourUnreachable`."""
        rows = await database.fetch(_SEED, host, now - SPAN, _STACKED)
        first = self._points[0].at if self._points else now
        earlier: list[Point] = []
        for row in rows:
            point = Point(*row)
            if point.at < first and (not earlier or point.at - earlier[-1].at >= _APART):
                earlier.append(point)
        self._points.extendleft(reversed(earlier))

    def charts(self, interval: float) -> Sequence[Chart]:
        """Return the charts; a line has a gap where more than two samples in a row are missing."""
        points = list(_with_gaps(self._points, timedelta(seconds=max(interval, 10.0) * 2.5)))
        last = self._points[-1] if self._points else Point(datetime.min, *[None] * 6)  # noqa: DTZ901 - not shown
        total = self._memory_total
        of_total = "" if total is None else f" of {size(total)}"
        return (
            Chart(
                "CPU",
                "percent",
                [_line("busy", points, "cpu")],
                now="" if last.cpu is None else percent(last.cpu),
                maximum=100.0,
            ),
            Chart(
                "Memory",
                "bytes",
                [_line("used", points, "memory")],
                now="" if last.memory is None else size(last.memory) + of_total,
                maximum=total,
            ),
            Chart(
                "Disk",
                "bytes_per_second",
                [_line("read", points, "read"), _line("written", points, "written")],
                now=_rates(read=last.read, written=last.written),
            ),
            Chart(
                "Network",
                "bytes_per_second",
                [_line("received", points, "received"), _line("sent", points, "sent")],
                now=_rates(received=last.received, sent=last.sent),
            ),
        )


def percent(value: float) -> str:
    """Return a percentage as a person reads it."""
    return f"{value:.0f}{NO_BREAK}%"


def size(value: float) -> str:
    """Return a size as a person reads it, in powers of 1,024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1000:
            digits = 0 if unit == "B" or value >= 99.5 else 1
            return f"{value:.{digits}f}{NO_BREAK}{unit}"
        value /= 1024
    return f"{value:.1f}{NO_BREAK}TiB"


def _rates(**known: float | None) -> str:
    return ", ".join(f"{size(value)}/s {what}" for what, value in known.items() if value is not None)


def _line(label: str, points: Sequence[tuple[datetime, Point | None]], what: str) -> Series:
    return Series(label, [(at, None if point is None else getattr(point, what)) for at, point in points])


def _with_gaps(points: Iterable[Point], longest: timedelta) -> Iterable[tuple[datetime, Point | None]]:
    before: datetime | None = None
    for point in points:
        if before is not None and point.at - before > longest:
            yield before + longest / 2, None
        yield point.at, point
        before = point.at


def _only(readings: Sequence[Reading] | None) -> Reading | None:
    return readings[0] if readings else None


def _value(reading: Reading | None, column: str) -> float | None:
    value = None if reading is None else reading.values.get(column)
    return float(value) if isinstance(value, int | float) else None


def _sum(readings: Iterable[Reading], column: str) -> float | None:
    """Return the sum of what is known; None when nothing is."""
    known = [value for one in readings if (value := _value(one, column)) is not None]
    return sum(known) if known else None
