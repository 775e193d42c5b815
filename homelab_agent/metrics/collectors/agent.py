"""The agent itself: what it costs and how well it keeps time."""

from __future__ import annotations

import time

import psutil

from homelab_agent.metrics import instants, rates
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.sample import Families, Reading, Values
from homelab_agent.metrics.settings import MetricsSettings


class Agent:
    """Family `agent`.

    `notice` holds what only the loop knows; it is set before each collection. `clock_synchronised` is what
    the last one found.
    """

    name = "agent"
    slow = False
    patience = 1.0

    def __init__(self, host: Host, settings: MetricsSettings) -> None:
        self._host = host
        self._settings = settings
        self._entity = host.entities.get("agent", "agent")
        self._process: psutil.Process | None = None
        self._counters: rates.Counters[str] = rates.Counters()
        self.notice: Values = {}
        self.clock_synchronised = False

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings."""
        self._settings = settings

    def collect(self) -> Families:
        """Read the process's own cost: CPU of all threads, memory, and what it made the disk write."""
        process = self._process = self._process or psutil.Process()
        self.clock_synchronised = instants.synchronised()
        cpu = time.process_time()
        written = process.io_counters().write_bytes
        now = self._host.monotonic()
        grown = self._counters.observe({"": (cpu, written)}, now, interval=self._settings.interval)[""]
        share = None if grown.deltas is None else round(100 * grown.deltas[0] / grown.seconds, 4)
        values: Values = {
            "rss_bytes": process.memory_info().rss,
            "threads": process.num_threads(),
            "cpu_s": round(cpu, 6),
            "cpu_pct": share,
            "written_bytes": written,
            "written_bytes_per_s": rates.per_second(grown, 2)[1],
        }
        values.update(self.notice)
        return {"agent": [Reading(self._entity, values)]}
