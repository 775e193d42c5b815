"""Memory, swap and what the kernel did for want of memory (proc_meminfo(5), /proc/vmstat)."""

from __future__ import annotations

import os

from homelab_agent.core.spool import Scalar
from homelab_agent.metrics import rates
from homelab_agent.metrics.host import Host, field
from homelab_agent.metrics.sample import Families, Reading, Values
from homelab_agent.metrics.settings import MetricsSettings

_SIZES = {
    "total_bytes": b"\nMemTotal:",
    "free_bytes": b"\nMemFree:",
    "available_bytes": b"\nMemAvailable:",
    "buffers_bytes": b"\nBuffers:",
    "cached_bytes": b"\nCached:",
    "shared_bytes": b"\nShmem:",
    "slab_bytes": b"\nSlab:",
    "dirty_bytes": b"\nDirty:",
    "writeback_bytes": b"\nWriteback:",
    "swap_total_bytes": b"\nSwapTotal:",
    "swap_free_bytes": b"\nSwapFree:",
    "swap_cached_bytes": b"\nSwapCached:",
}
_EVENTS = (b"\npswpin ", b"\npswpout ", b"\npgmajfault ", b"\noom_kill ")


class Memory:
    """Family `memory`. In a container the numbers are those that lxcfs shows, where it is mounted."""

    name = "memory"
    slow = False
    patience = 1.0

    def __init__(self, host: Host, settings: MetricsSettings) -> None:
        self._host = host
        self._settings = settings
        self._meminfo = host.file("proc/meminfo")
        self._vmstat = host.file("proc/vmstat")
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._counters: rates.Counters[str] = rates.Counters()

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings."""
        self._settings = settings

    def collect(self) -> Families:
        """Read /proc/meminfo and /proc/vmstat."""
        values = sizes(self._meminfo.read())
        values.update(self._events())
        return {"memory": [Reading(self._host.entities.get("memory", "total"), values)]}

    def _events(self) -> Values:
        try:
            vmstat = b"\n" + self._vmstat.read()
        except OSError:  # a container may hide it
            vmstat = b""
        now = self._host.monotonic()
        pages_in, pages_out, faults, kills = (field(vmstat, name) for name in _EVENTS)
        swapped_in, swapped_out = self._in_bytes(pages_in), self._in_bytes(pages_out)
        counters = (swapped_in, swapped_out, faults, kills)
        grown = self._counters.observe({"": counters}, now, interval=self._settings.interval)[""]
        in_per_s, out_per_s, faults_per_s, _ = rates.per_second(grown, 4)
        return {
            "swap_in_bytes": swapped_in,
            "swap_out_bytes": swapped_out,
            "major_faults": faults,
            "oom_kills": kills,
            "swap_in_bytes_per_s": in_per_s,
            "swap_out_bytes_per_s": out_per_s,
            "major_faults_per_s": faults_per_s,
            "reset": grown.reset,
        }

    def _in_bytes(self, pages: int | None) -> int | None:
        return None if pages is None else pages * self._page


def sizes(meminfo: bytes) -> Values:
    """Return memory and swap in bytes; used is total minus available, as psutil 7.1 and procps 4 have it."""
    meminfo = b"\n" + meminfo
    values: Values = {}
    for column, name in _SIZES.items():
        kibibytes = field(meminfo, name)
        values[column] = None if kibibytes is None else kibibytes * 1024
    values["used_bytes"], values["used_pct"] = _used(values["total_bytes"], values["available_bytes"])
    values["swap_used_bytes"], values["swap_used_pct"] = _used(values["swap_total_bytes"], values["swap_free_bytes"])
    return values


def _used(total: Scalar, free: Scalar) -> tuple[int | None, float | None]:
    if not isinstance(total, int) or not isinstance(free, int):
        return None, None
    return total - free, round(100 * (total - free) / total, 3) if total else None
