"""Small /proc and /sys trees of kinds of machines, written for the tests after what such machines show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.recorded import Recorded

CPU = "sys/devices/system/cpu"
FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
RARE = {"temperature", "fan", "frequency", "throttling", "raid"}
"""Families that a virtual machine has not."""
SOMEWHERE = {"unit", "container"}
"""Families that the host of the tests may lack: it may be a container, without systemd and without Docker."""
ASKED_FOR = {"probe", "smart", "forecast"}
"""Families of what somebody has to name first, that only the root half can ask, or only PostgreSQL knows."""


def chip(recorded: Recorded, directory: str, name: str, **files: str) -> None:
    """Add a chip of hwmon."""
    recorded.write(f"{directory}/name", f"{name}\n")
    for file, content in files.items():
        recorded.write(f"{directory}/{file}", f"{content}\n")
    recorded.link(f"sys/class/hwmon/{directory.rpartition('/')[2]}", "../../../" + directory)


def array(recorded: Recorded, device: str, *, disks: int, states: dict[str, str], **files: str) -> None:
    """Add an array of disks; `states` by device, files of its directory `md` beside those that all have."""
    directory = f"sys/block/{device}/md"
    known = {"level": "raid1", "array_state": "clean", "sync_action": "idle", "sync_completed": "none"}
    numbers = {"raid_disks": str(disks), "degraded": "0", "mismatch_cnt": "0"}
    for file, content in {**known, **numbers, **files}.items():
        recorded.write(f"{directory}/{file}", f"{content}\n")
    for disk, state in states.items():
        recorded.write(f"{directory}/dev-{disk}/state", f"{state}\n")


def container(recorded: Recorded, path: str, **more: str) -> None:
    """Add a container's group of version 2, or change it; `more` are its files, with _ for each dot."""
    files = {
        "cpu_stat": "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnr_periods 9\nnr_throttled 2\n"
        "throttled_usec 300000\n",
        "memory_current": "104857600\n",
        "memory_stat": "anon 52428800\nfile 52428800\ninactive_anon 1\ninactive_file 20971520\n",
        "memory_max": "max\n",
        "memory_swap_current": "4096\n",
        "memory_events": "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n",
        "io_stat": "8:0 rbytes=1000 wbytes=2000 rios=3 wios=4 dbytes=5 dios=6\n",
    }
    for name, content in {**files, **more}.items():
        recorded.write(f"sys/fs/cgroup/{path}/{name.replace('_', '.')}", content)


def old_container(recorded: Recorded, path: str, more: Mapping[str, str] = MappingProxyType({})) -> None:
    """Add a container's groups of version 1; `more` are files of them, by CONTROLLER/FILE."""
    moved = "8:0 Read 1000\n8:0 Write 2000\n8:0 Sync 3000\n8:0 Total 3000\nTotal 3000\n"
    files = {
        "cpuacct/cpuacct.usage": "2500000000\n",
        "cpu/cpu.stat": "nr_periods 9\nnr_throttled 2\nthrottled_time 300000000\n",
        "memory/memory.usage_in_bytes": "104857600\n",
        "memory/memory.memsw.usage_in_bytes": "104861696\n",
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 20971520\n",
        "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        "blkio/blkio.throttle.io_service_bytes_recursive": moved,
        "blkio/blkio.throttle.io_serviced_recursive": "8:0 Read 3\n8:0 Write 4\n8:0 Total 7\nTotal 7\n",
    }
    recorded.write("sys/fs/cgroup/blkio/blkio.throttle.io_service_bytes_recursive", moved)
    for name, content in {**files, **more}.items():
        controller, _, file = name.partition("/")
        recorded.write(f"sys/fs/cgroup/{controller}/{path}/{file}", content)


def with_groups(recorded: Recorded, controllers: str = "cpuset cpu io memory pids") -> Recorded:
    """Let a machine have control groups of version 2, some of them of no container."""
    recorded.write("sys/fs/cgroup/cgroup.controllers", f"{controllers}\n")
    recorded.write("sys/fs/cgroup/cgroup.procs", "")
    for path in (
        "init.scope",
        "system.slice/cron.service",
        "system.slice/docker.service",
        "user.slice/user-1000.slice",
    ):
        recorded.write(f"sys/fs/cgroup/{path}/cgroup.procs", "1\n")
    return recorded


def raspberry(root: Path) -> Recorded:
    """Return a Raspberry Pi 4 with a fan and two disks at USB, its power supply too weak."""
    found = Recorded(root)
    for core in range(4):
        for file, content in {
            "scaling_cur_freq": 1500000,
            "cpuinfo_min_freq": 600000,
            "cpuinfo_max_freq": 1800000,
        }.items():
            found.write(f"{CPU}/cpu{core}/cpufreq/{file}", f"{content}\n")
    found.write(FIRMWARE, "50005\n")
    chip(
        found,
        "sys/devices/virtual/thermal/thermal_zone0/hwmon0",
        "cpu_thermal",
        temp1_input="61342",
        temp1_crit="110000",
    )
    chip(found, "sys/devices/platform/cooling_fan/hwmon/hwmon2", "pwmfan", fan1_input="2870")
    array(found, "md0", disks=2, states={"sda1": "in_sync", "sdb1": "in_sync"})
    found.write("etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\nVERSION_ID="12"\n')
    found.write("proc/sys/kernel/osrelease", "6.6.31+rpt-rpi-v8\n")
    found.write("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
    found.write("proc/1/mountinfo", "26 1 8:1 / / rw,noatime shared:1 - ext4 /dev/sda1 rw\n")
    for disk, name in {"sda": "usb-Samsung_T7_1-0:0", "sdb": "usb-WD_Elements_2-0:0"}.items():
        found.write(f"sys/block/{disk}/size", "1953525168\n")
        found.write(f"sys/block/{disk}/device/model", f"{name.split('_')[1]}\n")
        found.link(f"dev/disk/by-id/{name}", f"../../{disk}")
    found.link("dev/disk/by-uuid/1111-2222", "../../sda1")
    found.write("sys/devices/platform/scb/eth0/address", "dc:a6:32:00:00:01\n")
    found.link("sys/devices/platform/scb/eth0/device", "../../scb")
    found.link("sys/class/net/eth0", "../../devices/platform/scb/eth0")
    found.link("dev/disk/by-id/md-uuid-1:2:3:4", "../../md0")
    return found
