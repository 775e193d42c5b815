"""The section `[metrics]`: how often this host is sampled, and what is left out."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult, urlsplit

from pydantic import field_validator, model_validator

from homelab_agent.core.settings import NAME, Section, check_absolute, check_unique, setting

_GLOBS = "Globs; a name is shown when it matches one of include and none of exclude."


class Probe(Section):
    """A service that is asked now and then whether it answers: a check, and a family of samples."""

    name: str = setting(..., "What checks, charts and log call it.", pattern=NAME, example="photos")
    target: str = setting(
        ...,
        "URL (http, https): a GET is answered with 200 to 399. host:port: it takes a connection; tls://host:port: with "
        "a certificate that is believed.",
        example="https://photos.example.net/api/health",
    )
    every: float = setting(30.0, "Time between two questions.", unit="s", ge=5, le=86400)
    within: float = setting(5.0, "How long an answer may take.", unit="s", gt=0, le=60)
    text: str = setting("", "A text that must be in the page.", example="pong")
    ca: str = setting(
        "", "Path of the certificates that are believed; empty: the system's.", example="/etc/ssl/own.pem"
    )
    verify: bool = setting(
        default=True, doc="Whether the certificate must be believed; if not, its expiry is not known either."
    )
    certificate_days: int = setting(
        14, "How long before its certificate expires that is said; with Let's Encrypt 20.", unit="d", ge=0, le=365
    )

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        address = urlsplit(self.target if "://" in self.target else f"tcp://{self.target}")
        message = ""
        if address.scheme not in {"http", "https", "tls", "tcp"} or not address.hostname:
            message = f"{self.target} is neither a URL (http, https), nor host:port, nor tls://host:port"
        elif not _has_port(address) and address.scheme in {"tls", "tcp"}:
            message = f"{self.target} lacks the port"
        elif self.text and address.scheme not in {"http", "https"}:
            message = f"`text` is for a page, and {self.target} is none"
        if message:
            raise ValueError(message)
        return self


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
        "Time between two readings of what changes slowly or is slow to read: filesystems, sensors, frequency and "
        "throttling, arrays, units, containers. Answers of probes, disks' health and forecasts have their rows then, "
        "too. With a longer `interval` it is that.",
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
    disk_health_interval: int = setting(
        6 * 3600,
        "Time between two questions to each disk how it is (SMART, by smartctl); one that sleeps is not woken.",
        unit="s",
        reload=True,
        ge=600,
        le=7 * 86400,
    )
    probe: list[Probe] = setting([], "Services of your own to ask.", max_length=100)
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
    sensors_include: list[str] = setting(["*"], 'Temperature sensors and fans to show, as "chip label".', reload=True)
    sensors_exclude: list[str] = setting(
        ["w1*", "drivetemp*"],
        'Temperature sensors and fans to leave out, as "chip label". Reading those left out by default disturbs a '
        "1-wire bus or keeps disks awake.",
        reload=True,
    )
    units_include: list[str] = setting(
        ["*.service", "*.timer", "*.socket", "*.mount", "*.swap"], f"Units of systemd to show. {_GLOBS}", reload=True
    )
    units_exclude: list[str] = setting(
        [
            "user@*.service", "user-runtime-dir@*.service", "modprobe@*.service", "initrd-*.service",
            "run-user-*.mount", "run-credentials-*.mount", "run-docker-*.mount", "var-lib-docker-*.mount",
            "var-lib-containers-*.mount", "var-snap-*.mount", "snap-*.mount", "dev-*.mount", "proc-*.mount",
            "sys-*.mount",
        ],
        "Units to leave out: by default those that come and go with sessions, containers and packages, and the "
        "kernel's own mounts.",
        reload=True,
    )  # fmt: skip
    containers_include: list[str] = setting(
        ["*"], f'Containers of Docker to show, by name or as "project/service/number". {_GLOBS}', reload=True
    )
    containers_exclude: list[str] = setting(
        ["homelab-agent-*"], "Containers to leave out: by default those that a backup's drill starts.", reload=True
    )
    docker: Path = setting(
        Path("/run/docker.sock"),
        "The Docker engine's socket; it is asked what containers are called, and nothing else.",
    )

    @property
    def slow_step(self) -> int:
        """How far apart two readings of what is slow should be, in seconds: nothing is read between two samples."""
        return max(self.interval, self.slow_interval)

    @field_validator("docker")
    @classmethod
    def _is_absolute(cls, value: Path) -> Path:
        return check_absolute(value)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        check_unique([probe.name for probe in self.probe], "probes")
        return self


def _has_port(address: SplitResult) -> bool:
    try:
        return bool(address.port)
    except ValueError:
        return False


def shown(name: str, include: list[str], exclude: list[str]) -> bool:
    """Return whether a name passes a pair of filters."""
    return any(fnmatchcase(name, glob) for glob in include) and not any(fnmatchcase(name, glob) for glob in exclude)
