"""What is mounted where (proc_pid_mountinfo(5)), which of it is shown, and by what it is known."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from homelab_agent.metrics.host import Host, NotAvailable, links
from homelab_agent.metrics.settings import MetricsSettings, shown

_REMOTE = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "ncpfs"),
        *("ocfs2", "gfs2", "davfs", "fuse", "virtiofs", "beegfs", "orangefs"),
    )
)
"""Types whose answer depends on a server or another process, and may not come (fuse.sshfs too)."""
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted filesystem; `number` is its device number, e.g. 8:1.

    Names are as Python has file names: bytes that are no UTF-8 are surrogates, so that statvfs finds the mount.
    """

    point: str
    type: str
    device: str
    number: str
    read_only: bool

    @property
    def remote(self) -> bool:
        """Whether asking it may hang for somebody else's sake."""
        return self.type.partition(".")[0] in _REMOTE


def listed(host: Host) -> bytes:
    """Return what init has mounted; where that is forbidden, what this process sees. Raises `NotAvailable`."""
    for process in ("1", "self"):
        try:
            return host.path(f"/proc/{process}/mountinfo").read_bytes()
        except OSError:
            continue
    raise NotAvailable(what="/proc/self/mountinfo")


def parse(mountinfo: bytes) -> Iterable[Mount]:
    """Yield every mount, in the order in which they were made.

    Whether it is read-only is read from the filesystem's options, not the mount's: the latter are also
    changed for one process alone (systemd's ProtectSystem=), the former when the kernel gives up writing
    after an error.
    """
    for line in filter(None, mountinfo.split(b"\n")):  # str.splitlines would also end one at U+0085
        fields = os.fsdecode(line).split(" ")
        kind, device, options = fields[fields.index("-") + 1 :][:3]
        flags = options.split(",")
        yield Mount(
            _plain(fields[4]), _plain(kind), _plain(device), fields[2], "ro" in flags or "emergency_ro" in flags
        )


def choose(mounts: Iterable[Mount], settings: MetricsSettings) -> list[Mount]:
    """Return the mounts to show: of one filesystem mounted more than once the shortest path, as df does."""
    latest = {mount.point: mount for mount in mounts}  # a later mount hides an earlier one at the same place
    chosen: dict[str, Mount] = {}
    for mount in latest.values():
        if any(fnmatchcase(mount.type, glob) for glob in settings.filesystem_types_exclude):
            continue
        if not shown(mount.point, settings.mounts_include, settings.mounts_exclude):
            continue
        other = chosen.get(mount.number)
        if other is None or len(mount.point) < len(other.point):
            chosen[mount.number] = mount
    return sorted(chosen.values(), key=lambda mount: mount.point)


def uuids(directory: Path) -> Mapping[str, str]:
    """Return the UUIDs of filesystems by their device's kernel name; empty without udev."""
    return {device: name for name, device in links(directory)}


def identity(mount: Mount, known: Mapping[str, str], dev: Path) -> str:
    """Return a filesystem's UUID; the device's name where it has none."""
    device = dev / mount.device.removeprefix("/dev/")
    name = device.resolve().name if mount.device.startswith("/dev/") else mount.device
    return known.get(name, mount.device)


def key(mount: Mount, known: Mapping[str, str], dev: Path) -> str:
    """Return by what a mounted filesystem is known."""
    return f"{identity(mount, known, dev)} {mount.point}"


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text) if "\\" in text else text
