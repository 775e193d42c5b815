"""The collectors: one family or two each, read from this host without ever guessing.

Each is called on a lane's thread, never by two threads at once; it raises `NotAvailable` for what the host
lacks.
"""

from __future__ import annotations

from typing import Protocol

from homelab_agent.metrics.sample import Families
from homelab_agent.metrics.settings import MetricsSettings


class Collector(Protocol):
    """Reads one family or two.

    `slow` ones are asked every `slow_interval`; `patience` is how many deadlines the whole collector may
    take.
    """

    name: str
    slow: bool
    patience: float

    def collect(self) -> Families:
        """Return what is so now; raises `NotAvailable` or OSError."""

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings, also while it is called: filters apply from the next reading on."""
