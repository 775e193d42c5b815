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
_MAY_FALL = (_IOWAIT, _STEAL, _GUEST, _GUEST + 1)
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
        self._before: dict[str, Sequence[int]] = {}
        self._others: rates.Counters[str] = rates.Counters()
        self._at = 0.0

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings."""
        self._settings = settings

    def collect(self) -> Families:
        """Read /proc/stat."""
        stat, now = self._stat.read(), self._host.monotonic()
        times = _times(stat)
        usable = 0 < now - self._at <= self._settings.interval * rates.LONGEST_IN_INTERVALS
        before, self._before, self._at = (self._before if usable else {}), times, now
        rows = {key: self._row(ticks, before.get(key)) for key, ticks in times.items()}
        total = rows.pop("cpu")
        total.update(self._counts(stat, now))
        entity = self._host.entities.get
        return {
            "cpu": [Reading(entity("cpu", "total"), total)],
            "cpu_core": [Reading(entity("cpu_core", key[3:]), row) for key, row in rows.items()],
        }

    def _row(self, ticks: Sequence[int], before: Sequence[int] | None) -> Values:
        hertz = self._hertz
        row: Values = dict(zip(_SECONDS, [count / hertz for count in ticks], strict=True))
        if before is None:
            row.update(_NO_SHARES)
            row["reset"] = False
        else:
            row.update(shares(before, ticks))
        return row

    def _counts(self, stat: bytes, now: float) -> Values:
        counters = (field(stat, b"\nctxt "), field(stat, b"\nprocesses "), field(stat, b"\nintr "))
        grown = self._others.observe({"": [one or 0 for one in counters]}, now, interval=self._settings.interval)[""]
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


def shares(before: Sequence[int], after: Sequence[int]) -> Values:
    """Return each mode's share of the time between two readings, in per cent.

    `busy_pct` is all but idle and iowait.

    A mode that fell has no share. Where the kernel does not let it fall the counters were reset (a core that
    was off, a restored guest), and no mode has one.
    """
    deltas = [new - old for old, new in zip(before, after, strict=True)]
    if min(deltas) < 0 and any(delta < 0 and mode not in _MAY_FALL for mode, delta in enumerate(deltas)):
        return {**_NO_SHARES, "reset": True}
    total = sum([delta for delta in deltas[:_GUEST] if delta > 0])
    if not total:
        return {**_NO_SHARES, "reset": False}
    scale = 100 / total
    found: Values = {
        name: round(delta * scale, 3) if delta >= 0 else None for name, delta in zip(_SHARES, deltas, strict=True)
    }
    found["busy_pct"] = round(100 - (deltas[_IDLE] + max(deltas[_IOWAIT], 0)) * scale, 3)
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
