"""CPU time per mode, of the host and of each core, and what else /proc/stat counts (proc_stat(5))."""

from __future__ import annotations

import os
from collections.abc import Sequence

from homelab_agent.metrics import rates
from homelab_agent.metrics.host import Host, field
from homelab_agent.metrics.sample import Families, Reading, Values
from homelab_agent.metrics.settings import MetricsSettings

MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")
"""In /proc/stat's order; guest time is also in user, guest_nice in nice."""
_SECONDS = tuple(f"{mode}_s" for mode in MODES)
_SHARES = tuple(f"{mode}_pct" for mode in MODES)
_NO_SHARES: Values = dict.fromkeys((*_SHARES, "busy_pct"))
_IDLE, _IOWAIT, _STEAL, _GUEST = 3, 4, 7, 8
MAY_FALL = (_IOWAIT, _STEAL, _GUEST, _GUEST + 1)
"""The kernel lets these fall without a reset (proc_stat(5) says so of iowait)."""


class Cpu:
    """Family `cpu` (the host as a whole) and `cpu_core`."""

    name = "cpu"
    slow = False
    patience = 1.0

    def __init__(self, host: Host, settings: MetricsSettings) -> None:
        self._host = host
        self._settings = settings
        self._stat = host.file("proc/stat")
        self._hertz = os.sysconf("SC_CLK_TCK")
        self._ticks: rates.Counters[str] = rates.Counters(may_fall=MAY_FALL)
        self._others: rates.Counters[str] = rates.Counters()

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings."""
        self._settings = settings

    def collect(self) -> Families:
        """Read /proc/stat."""
        stat, now = self._stat.read(), self._host.monotonic()
        times = _times(stat)
        grown = self._ticks.observe(times, now, interval=self._settings.interval)
        rows = {key: self._row(ticks, grown[key]) for key, ticks in times.items()}
        total = rows.pop("cpu")
        total.update(self._counts(stat, now))
        entity = self._host.entities.get
        return {
            "cpu": [Reading(entity("cpu", "total"), total)],
            "cpu_core": [Reading(entity("cpu_core", key[3:]), row) for key, row in rows.items()],
        }

    def _row(self, ticks: Sequence[int], grown: rates.Growth) -> Values:
        hertz = self._hertz
        row: Values = dict(zip(_SECONDS, [count / hertz for count in ticks], strict=True))
        row.update(shares(grown))
        return row

    def _counts(self, stat: bytes, now: float) -> Values:
        counters = (field(stat, b"\nctxt "), field(stat, b"\nprocesses "), field(stat, b"\nintr "))
        grown = self._others.observe({"": counters}, now, interval=self._settings.interval)[""]
        switches, forks, interrupts = rates.per_second(grown, 3)
        return {
            "context_switches": counters[0],
            "forks": counters[1],
            "interrupts": counters[2],
            "context_switches_per_s": switches,
            "forks_per_s": forks,
            "interrupts_per_s": interrupts,
            "runnable": field(stat, b"\nprocs_running "),
            "blocked": field(stat, b"\nprocs_blocked "),
        }


def shares(grown: rates.Growth) -> Values:
    """Return each mode's share of the time between two readings, in per cent.

    `busy_pct` is all but idle and iowait.

    A mode that fell has no share. Where the kernel does not let it fall the counters were reset (a core that
    was off, a restored guest), and no mode has one.
    """
    deltas = grown.deltas or ()
    known = [delta or 0 for delta in deltas]
    total = sum(known[:_GUEST])
    if not total:
        return {**_NO_SHARES, "reset": grown.reset}
    scale = 100 / total
    found: Values = {
        name: None if delta is None else round(delta * scale, 3) for name, delta in zip(_SHARES, deltas, strict=True)
    }
    found["busy_pct"] = round(100 - (known[_IDLE] + known[_IOWAIT]) * scale, 3)
    found["reset"] = False
    return found


def _times(stat: bytes) -> dict[str, Sequence[int]]:
    found: dict[str, Sequence[int]] = {}
    for line in stat.split(b"\n", 4097):
        if not line.startswith(b"cpu"):
            break
        name, *counts = line.split()
        ticks = [int(count) for count in counts[: len(MODES)]]
        found[name.decode()] = ticks + [0] * (len(MODES) - len(ticks))
    return found
