"""Filesystems: bytes, inodes, read-only; a mount that does not answer is waited for once, for its deadline."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from threading import Event

from homelab_agent.metrics.collectors import mounts
from homelab_agent.metrics.collectors.mounts import Mount
from homelab_agent.metrics.entity import Entity, legible
from homelab_agent.metrics.host import Host, NotAvailable
from homelab_agent.metrics.lane import Call, Errand, Lane, Outcome
from homelab_agent.metrics.sample import Families, Reading, Status, Values
from homelab_agent.metrics.settings import MetricsSettings

_LOCAL = "local"
_SILENT: Values = dict.fromkeys(
    (
        "size_bytes",
        "used_bytes",
        "free_bytes",
        "available_bytes",
        "used_pct",
        "inodes",
        "inodes_free",
        "inodes_used_pct",
    )
)


class Filesystem:
    """Family `filesystem`.

    Local mounts share one lane; a mount that needs a server or another process has its own. One that does not
    answer is `stuck`, with how long, and is not asked again until its call returns.
    """

    name = "filesystem"
    slow = True
    patience = 4.0

    def __init__(
        self,
        host: Host,
        settings: MetricsSettings,
        *,
        statvfs: Callable[[str | os.PathLike[str]], os.statvfs_result] = os.statvfs,
    ) -> None:
        self._host = host
        self._settings = settings
        self._statvfs = statvfs
        self._content = b""
        self._looked_by: MetricsSettings | None = None
        self._mounts: dict[str, tuple[Mount, Entity]] = {}
        self._lanes: dict[str, Lane[os.statvfs_result]] = {}
        self.silent: dict[str, str] = {}

    def adopt(self, settings: MetricsSettings) -> None:
        """Take new settings; lanes stay, with the mounts that are stuck on them."""
        self._settings = settings

    def collect(self) -> Families:
        """Ask every mount how full it is; those that do not answer are named in `silent`."""
        self._discover()
        if not self._mounts:
            raise NotAvailable(what="filesystems to show")
        outcomes = self._ask()
        self.silent = {
            point: outcome.cause
            for point, outcome in outcomes.items()
            if outcome.status in {Status.STUCK, Status.TIMEOUT}
        }
        readings = [Reading(self._mounts[point][1], self._values(point, outcomes[point])) for point in self._mounts]
        return {"filesystem": readings}

    def _discover(self) -> None:
        settings, content = self._settings, mounts.listed(self._host)
        if settings is self._looked_by and content == self._content:
            return
        known = mounts.uuids(self._host.path("/dev/disk/by-uuid"))
        dev = self._host.path("/dev")
        self._mounts = {}
        for mount in mounts.choose(mounts.parse(content), settings):
            key = mounts.key(mount, known, dev)
            self._mounts[mount.point] = (mount, self._host.entities.get("filesystem", key, mount.point))
        wanted = {self._lane_of(mount) for mount, _ in self._mounts.values()}
        for name in self._lanes.keys() - wanted - self.silent.keys():
            self._lanes.pop(name).close()
        self._content, self._looked_by = content, settings

    def _ask(self) -> dict[str, Outcome[os.statvfs_result]]:
        work: dict[str, dict[str, Call[os.statvfs_result]]] = {}
        for point, (mount, _) in self._mounts.items():
            call = Call(partial(self._statvfs, self._host.path(point)), self._settings.collector_deadline)
            work.setdefault(self._lane_of(mount), {})[point] = call
        under_way: list[tuple[Lane[os.statvfs_result], Errand[os.statvfs_result], Event]] = []
        for name, calls in work.items():
            lane, done = self._lanes.setdefault(name, Lane(f"metrics {name}")), Event()
            under_way.append((lane, lane.submit(calls, done.set), done))
        outcomes: dict[str, Outcome[os.statvfs_result]] = {}
        for lane, errand, done in under_way:
            outcomes.update(lane.wait(errand, done))
        return outcomes

    def _values(self, point: str, outcome: Outcome[os.statvfs_result]) -> Values:
        mount, _ = self._mounts[point]
        stuck = outcome.status in {Status.STUCK, Status.TIMEOUT}
        values: Values = {
            "device": legible(mount.device),
            "type": legible(mount.type),
            "read_only": mount.read_only,
            "error": outcome.value is None,
            "stuck_s": round(outcome.ms / 1000, 3) if stuck else 0.0,
        }
        values.update(_SILENT if outcome.value is None else sizes(outcome.value))
        return values

    @staticmethod
    def _lane_of(mount: Mount) -> str:
        return mount.point if mount.remote else _LOCAL


def sizes(found: os.statvfs_result) -> Values:
    """Return sizes in bytes; the percentage is of what an ordinary user may fill, as df has it."""
    unit = found.f_frsize
    used = (found.f_blocks - found.f_bfree) * unit
    available = found.f_bavail * unit
    inodes_used = found.f_files - found.f_ffree
    return {
        "size_bytes": found.f_blocks * unit,
        "used_bytes": used,
        "free_bytes": found.f_bfree * unit,
        "available_bytes": available,
        "used_pct": round(100 * used / (used + available), 3) if used + available else None,
        "inodes": found.f_files or None,
        "inodes_free": found.f_ffree if found.f_files else None,
        "inodes_used_pct": round(100 * inodes_used / found.f_files, 3) if found.f_files else None,
    }
