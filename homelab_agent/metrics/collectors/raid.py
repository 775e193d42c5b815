"""Arrays of disks that the kernel keeps (Documentation/admin-guide/md.rst); nothing here wakes a disk."""

from __future__ import annotations

from pathlib import Path

from homelab_agent.metrics import block
from homelab_agent.metrics.host import Host, NotAvailable, number, text
from homelab_agent.metrics.sample import Families, Reading, Values
from homelab_agent.metrics.settings import MetricsSettings


class Raid:
    """Family `raid`: known by the array's UUID; `device` is what the kernel calls it today."""

    name = "raid"
    slow = True
    patience = 1.0

    def __init__(self, host: Host, settings: MetricsSettings) -> None:
        self._host = host
        self._settings = settings

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings."""
        self._settings = settings

    def collect(self) -> Families:
        """Read each array's state."""
        by_id = block.by_id(self._host)
        readings = []
        for directory in sorted(self._host.path("/sys/block").glob("md*/md")):
            device = directory.parent.name
            if block.is_shown(device, self._settings):
                entity = self._host.entities.get("raid", by_id.get(device, device))
                readings.append(Reading(entity, {"device": device, **_values(directory)}))
        if not readings:
            raise NotAvailable(what="array of disks")
        return {"raid": readings}


def _values(directory: Path) -> Values:
    states = [text(path / "state").split(",") for path in directory.glob("dev-*")]
    done, _, whole = text(directory / "sync_completed").partition(" / ")
    return {
        "level": text(directory / "level"),
        "state": text(directory / "array_state"),
        "action": text(directory / "sync_action"),  # idle, check, resync, recover, ...; "" where the level has none
        "disks": number(directory / "raid_disks"),
        "missing": number(directory / "degraded"),
        "failed": sum("faulty" in state for state in states),
        "spares": sum("spare" in state for state in states),
        "mismatches": number(directory / "mismatch_cnt"),
        "synced_pct": round(100 * int(done) / int(whole), 3) if whole and int(whole) else None,
    }
