"""Network interfaces: /proc/net/dev, and their link from /sys/class/net.

No ioctl: psutil's way of asking a driver for its link keeps the interpreter's lock while the driver thinks.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from homelab_agent.metrics import rates
from homelab_agent.metrics.entity import Entity
from homelab_agent.metrics.host import File, Host, NotAvailable, number, text
from homelab_agent.metrics.sample import Families, Reading, Values
from homelab_agent.metrics.settings import MetricsSettings, shown

_COLUMNS = (
    "rx_bytes",
    "rx_packets",
    "rx_errors",
    "rx_dropped",
    "tx_bytes",
    "tx_packets",
    "tx_errors",
    "tx_dropped",
)
_RATES = tuple(f"{column}_per_s" for column in _COLUMNS)
_LOOK_AGAIN_SECONDS = 60.0
"""How long an interface's address, speed and identity are taken as known."""


@dataclass(slots=True)
class _Interface:
    entity: Entity
    carrier: File
    carrier_changes: File
    speed: int | None


class Network:
    """Family `network`. An interface is known by its MAC address and name."""

    name = "network"
    slow = False
    patience = 1.0

    def __init__(self, host: Host, settings: MetricsSettings) -> None:
        self._host = host
        self._settings = settings
        self._dev = host.file("proc/net/dev")
        self._counters: rates.Counters[int] = rates.Counters()
        self._names: frozenset[bytes] = frozenset()
        self._looked_at = 0.0
        self._looked_by: MetricsSettings | None = None
        self._interfaces: dict[bytes, _Interface] = {}

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings."""
        self._settings = settings

    def collect(self) -> Families:
        """Read /proc/net/dev and each shown interface's link."""
        lines = [line.partition(b":") for line in self._dev.read().splitlines()[2:]]
        now = self._host.monotonic()
        self._discover(frozenset(name.strip() for name, _, _ in lines), now)
        found = {}
        for name, _, counts in lines:
            if (interface := self._interfaces.get(name.strip())) is not None:
                found[interface.entity.id] = (interface, _numbers(counts))
        if not found:
            raise NotAvailable(what="network interfaces to show")
        counters = {id_: numbers for id_, (_, numbers) in found.items()}
        grown = self._counters.observe(counters, now, interval=self._settings.interval)
        readings = [
            Reading(interface.entity, _values(interface, numbers, grown[id_]))
            for id_, (interface, numbers) in found.items()
        ]
        return {"network": readings}

    def _discover(self, names: frozenset[bytes], now: float) -> None:
        """Look at the interfaces anew when one came or went, and now and then: they are exchanged."""
        settings, is_recent = self._settings, now - self._looked_at < _LOOK_AGAIN_SECONDS
        if settings is self._looked_by and names == self._names and is_recent:
            return
        interfaces = {}
        for name in sorted(os.fsdecode(name) for name in names):
            if not shown(name, settings.interfaces_include, settings.interfaces_exclude):
                continue
            directory = self._host.path("/sys/class/net") / name
            address = text(directory / "address")
            key = f"{address} {name}" if address.strip("0:") else name
            entity = self._host.entities.get("network", key, name)
            known = self._interfaces.get(os.fsencode(name))
            if known is None or known.entity is not entity:
                known = _Interface(entity, File(directory / "carrier"), File(directory / "carrier_changes"), None)
            known.speed = _speed(number(directory / "speed"))
            interfaces[os.fsencode(name)] = known
        self._interfaces, self._names, self._looked_at, self._looked_by = interfaces, names, now, settings


def _speed(megabits: int | None) -> int | None:
    """Return a link's speed in bytes per second; drivers that do not know it say -1 or refuse."""
    return megabits * 125_000 if megabits is not None and megabits > 0 else None


def _numbers(counts: bytes) -> Sequence[int]:
    fields = counts.split()
    return [int(fields[at]) for at in (0, 1, 2, 3, 8, 9, 10, 11)]


def _values(interface: _Interface, numbers: Sequence[int], grown: rates.Growth) -> Values:
    values: Values = dict(zip(_COLUMNS, numbers, strict=True))
    values.update(zip(_RATES, rates.per_second(grown, len(_COLUMNS)), strict=True))
    carrier = interface.carrier.number()  # the kernel refuses to tell for an interface that is set down
    values["up"] = carrier is not None
    values["carrier"] = bool(carrier)
    values["carrier_changes"] = interface.carrier_changes.number()
    values["speed_bytes_per_s"] = interface.speed
    values["reset"] = grown.reset
    return values
