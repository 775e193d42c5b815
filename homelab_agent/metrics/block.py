"""Block devices: which there are, by what each is known, which of them lie on others.

A kernel name is as in /dev and /proc/diskstats (`sda`, `cciss/c0d0`); under /sys a slash in it is an exclamation mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from homelab_agent.metrics.host import Host, links, text
from homelab_agent.metrics.settings import MetricsSettings, shown

SECTOR_BYTES = 512
"""The kernel counts in these, whatever the disk's own sector is."""
STACKED = ("dm-", "md", "bcache", "drbd", "zd")
"""How those are called that lie on other disks: what they read and write is counted there, too."""
_NAMES = "/dev/disk/by-id"
_BY_ID = ("wwn-", "nvme-eui.", "nvme-", "ata-", "scsi-", "mmc-", "usb-", "virtio-", "md-uuid-", "dm-uuid-")
"""Kinds of names in it, the stablest first."""


def names(host: Host) -> Sequence[str]:
    """Return the kernel names of all that is no partition."""
    try:
        return sorted(path.name.replace("!", "/") for path in host.path("/sys/block").iterdir())
    except OSError:
        return ()


def directory(host: Host, name: str) -> Path:
    """Return where the kernel says what it knows of one."""
    return host.path("/sys/block") / name.replace("/", "!")


def is_shown(name: str, settings: MetricsSettings) -> bool:
    """Return whether one passes the filters."""
    return shown(name, settings.disks_include, settings.disks_exclude)


def keys(host: Host, names: Iterable[str], settings: MetricsSettings) -> dict[str, str]:
    """Return by what each whole disk to show is known, of these kernel names."""
    known = by_id(host)
    found: dict[str, str] = {}
    for name in sorted(names):
        its = directory(host, name)
        if its.exists() and is_shown(name, settings):
            key = known.get(name) or text(its / "wwid") or text(its / "device/wwid") or name
            if key in found.values():  # two paths to one disk, a forged serial
                key = f"{key} {name}"
            found[name] = key
    return found


def by_id(host: Host) -> dict[str, str]:
    """Return the stablest name that udev has for each device, by its kernel name."""
    found: dict[str, tuple[int, str]] = {}
    for name, device in links(host.path(_NAMES)):
        rank = next((rank for rank, kind in enumerate(_BY_ID) if name.startswith(kind)), None)
        if rank is not None and (device not in found or rank < found[device][0]):
            found[device] = (rank, name)
    return {device: name for device, (_, name) in found.items()}


def named_at(host: Host) -> int:
    """Return when udev last gave a name or took one back, in ns; 0 where there is no udev."""
    try:
        return host.path(_NAMES).stat().st_mtime_ns
    except OSError:
        return 0


def is_stacked(name: str) -> bool:
    """Return whether one of that kernel name lies on others; also of one that is long gone."""
    return name.startswith(STACKED)


def has_slaves(its: Path) -> bool:
    """Return whether the kernel itself has handed on to other disks what the device in that directory was given."""
    try:
        return any((its / "slaves").iterdir())
    except OSError:
        return False
