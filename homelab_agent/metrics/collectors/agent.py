"""The agent itself: what it costs and how well it keeps time (proc_pid_io(5), proc_pid_statm(5))."""

from __future__ import annotations

import os
import time

import psutil

from homelab_agent.core import timekeeping
from homelab_agent.metrics import rates
from homelab_agent.metrics.host import Host, field
from homelab_agent.metrics.sample import Families, Reading, Values
from homelab_agent.metrics.settings import MetricsSettings


class Agent:
    """Family `agent`.

    `notice` holds what only the loop knows; it is set before each collection. `clock_synchronised` is what the last
    one found. Threads and open files are counted as seldom as slow families are read.
    """

    name = "agent"
    slow = False
    patience = 1.0

    def __init__(self, host: Host, settings: MetricsSettings) -> None:
        self._host = host
        self._settings = settings
        self._entity = host.entities.get("agent", "agent")
        self._io = host.file("proc/self/io")
        self._statm = host.file("proc/self/statm")
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._counters: rates.Counters[str] = rates.Counters()
        self._counts: Values = {}
        self._counted_at = 0.0
        self.notice: Values = {}
        self.clock_synchronised = False

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings."""
        self._settings = settings

    def collect(self) -> Families:
        """Read the process's own cost: CPU of all threads, memory, and what it made the disk write."""
        self.clock_synchronised = timekeeping.synchronised()
        cpu, written = time.process_time(), self._written()
        now = self._host.monotonic()
        grown = self._counters.observe({"": (cpu, written)}, now, interval=self._settings.interval)[""]
        spent = None if grown.deltas is None else grown.deltas[0]
        values: Values = {
            "rss_bytes": int(self._statm.read().split(None, 2)[1]) * self._page,
            "cpu_s": round(cpu, 6),
            "cpu_pct": None if spent is None else round(100 * spent / grown.seconds, 4),
            "written_bytes": written,
            "written_bytes_per_s": rates.per_second(grown, 2)[1],
        }
        if not self._counts or now - self._counted_at >= self._settings.slow_interval:
            process = psutil.Process()
            self._counts = {"threads": process.num_threads(), "open_files": process.num_fds()}
            self._counted_at = now
        return {"agent": [Reading(self._entity, {**values, **self._counts, **self.notice})]}

    def _written(self) -> int | None:
        """Return the bytes this process made the disks write; None where the kernel does not count them."""
        try:
            return field(self._io.read(), b"\nwrite_bytes: ")
        except OSError:
            return None
