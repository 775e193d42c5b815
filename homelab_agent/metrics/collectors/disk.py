"""Disk I/O (Documentation/admin-guide/iostats.rst)."""

from __future__ import annotations

from collections.abc import Sequence

from homelab_agent.metrics import block, rates
from homelab_agent.metrics.entity import Entity
from homelab_agent.metrics.host import Host, NotAvailable
from homelab_agent.metrics.sample import Families, Reading, Values
from homelab_agent.metrics.settings import MetricsSettings

_LOOK_AGAIN_SECONDS = 60.0
"""How long a disk's identity is taken as known, where nothing has come or gone."""
_FIELDS = 11
_MILLISECONDS = (3, 7, 8, 9)
"""Where `_counters` has them: the kernel keeps 32 bits of each, whatever the host."""


class Disk:
    """Family `disk`: known by WWN or serial number; `device` is what the kernel calls it today."""

    name = "disk"
    slow = False
    patience = 1.0

    def __init__(self, host: Host, settings: MetricsSettings) -> None:
        self._host = host
        self._settings = settings
        self._diskstats = host.file("proc/diskstats")
        self._counters: rates.Counters[int] = rates.Counters(narrow=_MILLISECONDS)
        self._seen: tuple[frozenset[bytes], int] = (frozenset(), 0)
        self._looked_at = 0.0
        self._looked_by: MetricsSettings | None = None
        self._entities: dict[bytes, Entity] = {}

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings."""
        self._settings = settings

    def collect(self) -> Families:
        """Read /proc/diskstats."""
        lines = [line.split(None, 3 + _FIELDS) for line in self._diskstats.read().splitlines()]
        now = self._host.monotonic()
        self._discover(frozenset(line[2] for line in lines), now)
        found: dict[int, tuple[Entity, str, Sequence[int]]] = {}
        for line in lines:
            if (entity := self._entities.get(line[2])) is not None:
                numbers = [int(count) for count in line[3 : 3 + _FIELDS]]
                found[entity.id] = (entity, line[2].decode(), numbers)
        if not found:
            raise NotAvailable(what="disks")
        counters = {id_: _counters(numbers) for id_, (_, _, numbers) in found.items()}
        grown = self._counters.observe(counters, now, interval=self._settings.interval)
        readings = [
            Reading(entity, _values(device, numbers[8], counters[id_], grown[id_]))
            for id_, (entity, device, numbers) in found.items()
        ]
        return {"disk": readings}

    def _discover(self, names: frozenset[bytes], now: float) -> None:
        """Find out which of the names are whole disks to show, and by what they are known.

        Again when one comes or goes, when udev has changed a name in by-id (it comes later than the kernel, and a
        disk may be exchanged for another between two readings), and now and then.
        """
        settings, seen = self._settings, (names, block.named_at(self._host))
        is_recent = now - self._looked_at < _LOOK_AGAIN_SECONDS
        if settings is self._looked_by and seen == self._seen and is_recent:
            return
        known = block.keys(self._host, (name.decode() for name in names), settings)
        self._entities = {name.encode(): self._host.entities.get("disk", key) for name, key in known.items()}
        self._seen, self._looked_at, self._looked_by = seen, now, settings


def _counters(numbers: Sequence[int]) -> Sequence[int]:
    """Return what grows, all but the ninth, the requests under way; times in milliseconds, which go round."""
    reads, merged_reads, sectors_read, read_ms, writes, merged_writes, sectors_written, write_ms = numbers[:8]
    read, written = sectors_read * block.SECTOR_BYTES, sectors_written * block.SECTOR_BYTES
    return (
        reads,
        merged_reads,
        read,
        read_ms,
        writes,
        merged_writes,
        written,
        write_ms,
        numbers[9],
        numbers[10],
    )


def _values(device: str, in_flight: int, counters: Sequence[int], grown: rates.Growth) -> Values:
    reads, merged_reads, read, read_ms, writes, merged_writes, written, write_ms, busy_ms, weighted_ms = counters
    per_s = rates.per_second(grown, len(counters))
    return {
        "device": device,
        "reads": reads,
        "reads_merged": merged_reads,
        "read_bytes": read,
        "read_s": read_ms / 1000,
        "writes": writes,
        "writes_merged": merged_writes,
        "written_bytes": written,
        "write_s": write_ms / 1000,
        "busy_s": busy_ms / 1000,
        "weighted_s": weighted_ms / 1000,
        "in_flight": in_flight,
        "reads_per_s": per_s[0],
        "read_bytes_per_s": per_s[2],
        "writes_per_s": per_s[4],
        "written_bytes_per_s": per_s[6],
        "read_await_s": _await(grown, 3, 0),
        "write_await_s": _await(grown, 7, 4),
        "busy_pct": None if per_s[8] is None else round(min(per_s[8] / 10, 100.0), 3),
        "queue": None if per_s[9] is None else round(per_s[9] / 1000, 4),
        "reset": grown.reset,
    }


def _await(grown: rates.Growth, milliseconds: int, requests: int) -> float | None:
    """Return the mean time of a request that ended meanwhile; None when none did."""
    spent, ended = (None, None) if grown.deltas is None else (grown.deltas[milliseconds], grown.deltas[requests])
    return None if spent is None or not ended else round(spent / ended / 1000, 6)
