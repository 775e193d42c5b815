"""Whether a Raspberry Pi's firmware slows it down: its power supply is too weak, or it is too warm.

The bits are those of `vcgencmd get_throttled` (Raspberry Pi documentation, "vcgencmd"); the kernel has them in a file.
"""

from __future__ import annotations

from homelab_agent.metrics.host import Host, NotAvailable
from homelab_agent.metrics.sample import Families, Reading, Values
from homelab_agent.metrics.settings import MetricsSettings

_FILE = "sys/devices/platform/soc/soc:firmware/get_throttled"
_COLUMNS = ("under_voltage", "capped", "throttled", "too_warm")
_SINCE_BOOT_BITS = 16


class Throttling:
    """Family `throttling`: what is so now, and what was so at any time since the host was booted."""

    name = "throttling"
    slow = True
    patience = 1.0

    def __init__(self, host: Host, _settings: MetricsSettings) -> None:
        self._entity = host.entities.get("throttling", "total")
        self._file = host.file(_FILE)

    def adopt(self, settings: MetricsSettings) -> None:
        """Nothing depends on the settings."""

    def collect(self) -> Families:
        """Read the firmware's bits."""
        try:
            bits = int(self._file.read(), 16)
        except OSError as error:
            raise NotAvailable(what="Raspberry Pi's firmware", cause=error) from error
        values: Values = {}
        for place, column in enumerate(_COLUMNS):
            values[column] = bool(bits >> place & 1)
            values[f"{column}_since_boot"] = bool(bits >> (place + _SINCE_BOOT_BITS) & 1)
        return {"throttling": [Reading(self._entity, values)]}
