"""The section `[metrics]`: how often this host is sampled, and what is left out."""

from __future__ import annotations

from fnmatch import fnmatchcase

from homelab_agent.core.settings import Section, setting

_GLOBS = "Globs; a name is shown when it matches one of include and none of exclude."


class MetricsSettings(Section):
    """How this host is sampled. Filters take shell globs (`veth*`)."""

    interval: int = setting(
        10,
        "Time between two samples; they are taken on wall-clock boundaries.",
        unit="s",
        reload=True,
        ge=1,
        le=3600,
    )
    slow_interval: int = setting(
        60,
        "Time between two readings of what changes slowly or is slow to read: filesystems, temperatures.",
        unit="s",
        reload=True,
        ge=1,
        le=86400,
    )
    collector_deadline: float = setting(
        2.0,
        "How long one collector, one mount or one sensor chip may take.",
        unit="s",
        reload=True,
        gt=0,
        le=60,
    )
    mounts_include: list[str] = setting(["*"], f"Mount points to show. {_GLOBS}", reload=True)
    mounts_exclude: list[str] = setting(
        [
            "/proc", "/proc/*", "/sys", "/sys/*", "/dev", "/dev/*", "/run", "/run/*", "/boot/efi",
            "/snap/*", "/var/lib/docker/*", "/var/lib/containers/*", "/var/lib/kubelet/*",
            "/etc/*",
        ],
        "Mount points to leave out.",
        reload=True,
    )  # fmt: skip
    filesystem_types_exclude: list[str] = setting(
        [
            "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts",
            "devtmpfs", "efivarfs", "fuse.gvfsd-fuse", "fuse.lxcfs", "fuse.portal", "fusectl",
            "hugetlbfs", "iso9660", "mqueue", "nsfs", "overlay", "proc", "pstore", "ramfs",
            "rpc_pipefs", "securityfs", "selinuxfs", "squashfs", "sysfs", "tmpfs", "tracefs",
        ],
        "Filesystem types to leave out.",
        reload=True,
    )  # fmt: skip
    interfaces_include: list[str] = setting(["*"], "Network interfaces to show; VPN interfaces are.", reload=True)
    interfaces_exclude: list[str] = setting(
        [
            "lo", "veth*", "br-*", "docker*", "virbr*", "vnet*", "tap*", "ifb*", "dummy*",
            "cali*", "flannel*", "cni*", "podman*", "bonding_masters", "sit0", "tunl0", "ip6tnl0",
            "gre0", "gretap0", "erspan0",
        ],
        "Network interfaces to leave out.",
        reload=True,
    )  # fmt: skip
    disks_include: list[str] = setting(["*"], "Disks to show, by kernel name.", reload=True)
    disks_exclude: list[str] = setting(
        ["loop*", "ram*", "zram*", "fd[0-9]*", "sr[0-9]*", "nbd*"],
        "Disks to leave out, by kernel name.",
        reload=True,
    )
    sensors_include: list[str] = setting(["*"], 'Temperature sensors to show, as "chip label".', reload=True)
    sensors_exclude: list[str] = setting(
        ["w1*", "drivetemp*"],
        'Temperature sensors to leave out, as "chip label". Reading those left out by default disturbs a '
        "1-wire bus or keeps disks awake.",
        reload=True,
    )


def shown(name: str, include: list[str], exclude: list[str]) -> bool:
    """Return whether a name passes a pair of filters."""
    return any(fnmatchcase(name, glob) for glob in include) and not any(fnmatchcase(name, glob) for glob in exclude)
