"""On which disks a place lies: two partitions of one disk are lost together; and whether it is a disk of this host."""

from __future__ import annotations

import os
from pathlib import Path

from homelab_agent.backup import users

_ELSEWHERE = ("nfs", "cifs", "smb", "9p", "ceph", "glusterfs", "fuse.sshfs", "fuse.rclone", "fuse.s3fs", "virtiofs")
_MEMORY = ("tmpfs", "ramfs")
_BLOCK = Path("/sys/dev/block")


def disks(path: Path) -> frozenset[str]:
    """Return the whole disks of a place, or of the nearest that is there; what no disk has, as its mount calls it.

    A mirror or a volume group has several. Blocking; raises OSError.
    """
    mount = users.mount_of(nearest(path))
    entry = _BLOCK / mount.device
    if not entry.exists() and mount.source.startswith("/dev/"):  # Btrfs has numbers of its own
        number = Path(mount.source).stat().st_rdev
        entry = _BLOCK / f"{os.major(number)}:{os.minor(number)}"
    return _whole(entry.resolve()) if entry.exists() else frozenset({mount.source})


def trouble(path: Path) -> str:
    """Return why a place is none to keep what must outlive a power cut, and is needed at boot; "" where it is one."""
    kind = users.mount_of(nearest(path)).kind
    if kind in _MEMORY:
        return f"it is in memory ({kind})"
    return f"it is on another host ({kind})" if kind.startswith(_ELSEWHERE) else ""


def nearest(path: Path) -> Path:
    """Return the place itself, or the nearest one above that is there."""
    return next(one for one in (path, *path.parents) if one.exists())


def _whole(entry: Path) -> frozenset[str]:
    """Return the disks that a device of /sys is on (sysfs(5)): a partition's, or those that it is made of."""
    if (entry / "partition").exists():
        return _whole(entry.parent)
    if (file := entry / "loop/backing_file").exists():
        return disks(Path(file.read_text().strip()))
    below = list((entry / "slaves").glob("*"))
    return frozenset().union(*(_whole(one.resolve()) for one in below)) if below else frozenset({entry.name})
