"""How a machine of the tests starts: an enclosure over a root of its own, whose first process becomes systemd."""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Iterable
from pathlib import Path

from tests.neighbours.enclosure import Enclosure

JOURNAL = "/var/log/journal"
_ENGINES = ("/var/lib/containerd", "/var/lib/docker")
"""Here container engines make overlays, which cannot lie on another."""

_ROOT = r"""
root=$DIRECTORY/root disk=$DIRECTORY/disk
mkdir -p "$disk/files" "$disk/work"
mount -t overlay -o "lowerdir=$base,upperdir=$disk/files,workdir=$disk/work" overlay "$root"
if [ ! -e "$disk/born" ]; then
    rm -rf "$root/etc/systemd" # what somebody has set and enabled on the base is not the machine's
    cp -a --remove-destination "$DIRECTORY/own/." "$root/"
    : >"$disk/born"
    sync -f "$disk/born"
fi
for place in $on_disk; do
    mkdir -p "$disk/plain$place" "$root$place"
    mount --bind "$disk/plain$place" "$root$place"
done
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs "$root/run"
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$root/tmp"
"""
_KERNEL = r"""
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
for area in $settings_of_the_host; do
    mount --bind "$root/proc/sys/$area" "$root/proc/sys/$area"
    mount -o remount,bind,ro "$root/proc/sys/$area"
done
cat /proc/sys/kernel/random/uuid >"$DIRECTORY/boot-id" # the kernel's stays the same while the host is up
mount --bind "$DIRECTORY/boot-id" "$root/proc/sys/kernel/random/boot_id"
[ ! -e /proc/sysrq-trigger ] || mount --bind /dev/null "$root/proc/sysrq-trigger"
mount -t sysfs -o nosuid,nodev,noexec,ro sysfs "$root/sys"
"""
_DEVICES = r"""
mount -t tmpfs -o nosuid,mode=755 tmpfs "$root/dev" # the host's leads to the host's journal
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"
"""
_SYSTEMD = r"""
: >"$DIRECTORY/.up"
cd "$root"
pivot_root . .
umount -l .
mount --make-rshared / # credentials are mounted for a unit, and have to get there
exec setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio env -i container=homelab-agent-tests TERM=dumb \
    /lib/systemd/systemd --system --unit=multi-user.target
"""
"""Without what would reach the host: its clock, its kernel's modules, its hardware."""

_MASKED = """
dev-hugepages.mount getty.target kmod-static-nodes.service modprobe@.service proc-sys-fs-binfmt_misc.automount
sys-fs-fuse-connections.mount sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount
systemd-journald-audit.socket systemd-logind.service systemd-modules-load.service systemd-timesyncd.service
systemd-tmpfiles-clean.timer systemd-udevd.service tmp.mount
"""
"""Units for hardware, terminals and the kernel, which are the host's; and what would tidy up in the midst of a test."""

_JOURNALD = "[Journal]\nAudit=no\n"
"""The kernel's audit is one for all."""

_MANAGER = "[Manager]\nDefaultTimeoutStopSec=10s\n"
"""A unit that does not end is waited for, but not for a test's whole time."""


class Boot(Enclosure):
    """Starts a machine; its first process is systemd. Ended and started again, it has the same disk and identity."""

    def __init__(
        self, directory: Path, *, base: Path, setup: Iterable[str], shared: Iterable[Path], own_network: bool
    ) -> None:
        """`base` is the root whose files it has, and does not change; of the host's directories it has those shared.

        `setup` runs first, when `disk` in the directory is to be another file system than the directory's.
        """
        super().__init__(directory, setup=setup)
        network = ["net"] if own_network else []
        self.namespaces = ("mount", *network, "ipc", "uts", "pid")
        self.machine_id = uuid.uuid4().hex
        self.hostname = f"machine-{self.machine_id[:8]}"
        self._base = base
        self._shared = [str(place.resolve()) for place in shared]
        for name in ("root", "disk"):
            (directory / name).mkdir()
        self._make_own(directory / "own")

    def script(self) -> str:
        """Return the shell's lines that make its mounts and then become systemd."""
        settings = ["kernel", "vm", "fs", *([] if "net" in self.namespaces else ["net"])]
        has_engine = (self._base / "usr/sbin/dockerd").exists()
        words = {
            "base": str(self._base),
            "settings_of_the_host": " ".join(settings),
            "on_disk": " ".join([JOURNAL, *(_ENGINES if has_engine else ())]),
        }
        given = [f"{name}={shlex.quote(value)}" for name, value in words.items()]
        shared = [
            f'mkdir -p "$root"{place}; mount --rbind {place} "$root"{place}' for place in map(shlex.quote, self._shared)
        ]
        lines = [*given, *self._setup, _ROOT, _KERNEL, *self.control_groups('"$root"'), _DEVICES, *shared, _SYSTEMD]
        return "\n".join(lines)

    def _make_own(self, tree: Path) -> None:
        """Write what makes another machine of the base: its name and identity, and what is not started."""
        system, generators = tree / "etc/systemd/system", tree / "etc/systemd/system-generators"
        files = {
            tree / "etc/machine-id": f"{self.machine_id}\n",
            tree / "var/lib/dbus/machine-id": f"{self.machine_id}\n",
            tree / "etc/hostname": f"{self.hostname}\n",
            tree / "etc/systemd/journald.conf.d/homelab-agent-tests.conf": _JOURNALD,
            tree / "etc/systemd/system.conf.d/homelab-agent-tests.conf": _MANAGER,
        }
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        system.mkdir()
        generators.mkdir()
        for unit in _MASKED.split():
            (system / unit).symlink_to("/dev/null")
        for generator in (self._base / "usr/lib/systemd/system-generators").iterdir():
            (generators / generator.name).symlink_to("/dev/null")
