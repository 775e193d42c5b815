"""Load averages, and pressure: how long work waited (the kernel's Documentation/accounting/psi.rst)."""

from __future__ import annotations

import os

from homelab_agent.metrics import rates
from homelab_agent.metrics.host import File, Host, NotAvailable
from homelab_agent.metrics.sample import Families, Reading, Values
from homelab_agent.metrics.settings import MetricsSettings

RESOURCES = ("cpu", "memory", "io")


class Load:
    """Family `load`. `running` and `processes` count threads, as the kernel does."""

    name = "load"
    slow = False
    patience = 1.0

    def __init__(self, host: Host, _settings: MetricsSettings) -> None:
        self._entity = host.entities.get("load", "total")
        self._loadavg = host.file("proc/loadavg")
        self._uptime = host.file("proc/uptime")
        self._cores = os.cpu_count()

    def adopt(self, settings: MetricsSettings) -> None:
        """Nothing depends on the settings."""

    def collect(self) -> Families:
        """Read /proc/loadavg and /proc/uptime."""
        one, five, fifteen, threads, _ = self._loadavg.read().split()
        running, _, all_threads = threads.partition(b"/")
        values: Values = {
            "load1": float(one),
            "load5": float(five),
            "load15": float(fifteen),
            "running": int(running),
            "threads": int(all_threads),
            "cores": self._cores,
            "uptime_s": float(self._uptime.read().split()[0]),
        }
        return {"load": [Reading(self._entity, values)]}


class Pressure:
    """Family `pressure`: one entity for CPU, memory and I/O each. Kernels without PSI are not_available."""

    name = "pressure"
    slow = False
    patience = 1.0

    def __init__(self, host: Host, settings: MetricsSettings) -> None:
        self._host = host
        self._settings = settings
        self._files = {resource: host.file(f"proc/pressure/{resource}") for resource in RESOURCES}
        self._counters: rates.Counters[str] = rates.Counters()

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings."""
        self._settings = settings

    def collect(self) -> Families:
        """Read /proc/pressure; the averages over ten seconds are the kernel's, in per cent."""
        lines = {resource: _read(file) for resource, file in self._files.items()}
        now = self._host.monotonic()
        counters = {resource: (some[1], full[1]) for resource, (some, full) in lines.items()}
        grown = self._counters.observe(counters, now, interval=self._settings.interval)
        readings = []
        for resource, (some, full) in lines.items():
            some_per_s, full_per_s = rates.per_second(grown[resource], 2)
            has_full = resource != "cpu"  # the kernel always says 0: for the CPU of a whole host it is not defined
            values: Values = {
                "some_s": some[1] / 1e6,
                "full_s": full[1] / 1e6 if has_full else None,
                "some_pct": _share(some_per_s),
                "full_pct": _share(full_per_s) if has_full else None,
                "some_avg10_pct": some[0],
                "full_avg10_pct": full[0] if has_full else None,
                "reset": grown[resource].reset,
            }
            readings.append(Reading(self._host.entities.get("pressure", resource), values))
        return {"pressure": readings}


def _share(microseconds_per_second: float | None) -> float | None:
    return None if microseconds_per_second is None else round(min(microseconds_per_second / 1e4, 100.0), 3)


def _read(file: File) -> tuple[tuple[float, int], tuple[float, int]]:
    try:
        lines = file.read().splitlines()
    except OSError as error:  # no such file, or EOPNOTSUPP where PSI is off
        raise NotAvailable(what="pressure stall information (boot it with psi=1)", cause=error) from error
    some = _line(lines[0])
    return some, _line(lines[1]) if len(lines) > 1 else (0.0, 0)


def _line(line: bytes) -> tuple[float, int]:
    """Return the average over ten seconds and the total in microseconds."""
    _, ten, _, _, total = line.split()
    return float(ten[6:]), int(total[6:])
