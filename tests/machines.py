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


def _base(recorded: Recorded, *, cores: int, stat: str, meminfo: str, mounts: str) -> Recorded:
    """Write what every machine has."""
    lines = [f"cpu  {stat}", *(f"cpu{core} {stat}" for core in range(cores))]
    recorded.write("proc/stat", "\n".join([*lines, "intr 77 1 2", "ctxt 5000", "btime 1700000000", "processes 900"]))
    recorded.write("proc/meminfo", meminfo)
    recorded.write("proc/vmstat", "pswpin 1\npswpout 2\npgmajfault 3\noom_kill 0\n")
    recorded.write("proc/loadavg", "0.50 0.25 0.10 2/345 6789\n")
    recorded.write("proc/uptime", "86400.00 100000.00\n")
    recorded.write("proc/1/mountinfo", mounts)
    recorded.write("proc/self/io", "rchar: 1\nwchar: 2\nwrite_bytes: 4096\n")
    recorded.write("proc/self/statm", "1000 500 200 1 0 300 0\n")
    return recorded


def _pressure(recorded: Recorded) -> None:
    for resource in ("cpu", "memory", "io"):
        kinds = ("some", "full")
        lines = [f"{kind} avg10=0.50 avg60=0.00 avg300=0.00 total=1000000\n" for kind in kinds]
        recorded.write(f"proc/pressure/{resource}", "".join(lines))


def _disk(recorded: Recorded, device: str, number: str, by_id: str) -> None:
    recorded.write(f"sys/block/{device}/size", "1953525168\n")
    path = recorded.root / "proc/diskstats"
    before = path.read_text() if path.exists() else ""
    recorded.write("proc/diskstats", f"{before} {number} {device} 100 0 2000 40 200 0 4000 50 0 1000 90 0 0 0 0\n")
    if by_id:
        recorded.link(f"dev/disk/by-id/{by_id}", f"../../{device}")


def _network(recorded: Recorded, *names: str) -> None:
    lines = [f"{name}: 1000 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0" for name in names]
    recorded.write("proc/net/dev", "\n".join(["Inter-| Receive | Transmit", " face |bytes", *lines]) + "\n")


def bare_metal(root: Path) -> Recorded:
    """Return a server with an AMD processor, an NVMe disk, one of SATA, and a fan on its board."""
    found = _base(
        Recorded(root),
        cores=4,
        stat="100 0 50 800 10 0 5 0 0 0",
        meminfo="MemTotal: 32000000 kB\nMemFree: 1000000 kB\nMemAvailable: 24000000 kB\nSwapTotal: 0 kB\n",
        mounts="26 1 259:2 / / rw,noatime shared:1 - ext4 /dev/nvme0n1p2 rw\n",
    )
    _pressure(found)
    _disk(found, "nvme0n1", "259 0", "nvme-eui.0025385a91b00001")
    _disk(found, "sda", "8 0", "wwn-0x5000c500a1b2c3d4")
    _network(found, "lo", "enp5s0", "wg0", "docker0", "veth1a2b3c4")
    found.write("sys/class/net/enp5s0/address", "a8:a1:59:00:00:01\n")
    found.write("sys/class/net/enp5s0/speed", "2500\n")
    found.write("sys/class/net/enp5s0/carrier", "1\n")
    chip(found, "sys/devices/pci0000:00/0000:00:18.3/hwmon/hwmon1", "k10temp", temp1_input="55125", temp1_label="Tctl")
    nvme = {"temp1_input": "38850", "temp1_label": "Composite", "temp1_crit": "84850", "temp1_max": "81850"}
    chip(found, "sys/devices/pci0000:00/0000:00:01.1/0000:01:00.0/nvme/nvme0/hwmon0", "nvme", **nvme)
    chip(found, "sys/devices/platform/nct6775.656/hwmon/hwmon2", "nct6798", fan2_input="1180", fan2_min="300")
    chip(found, "sys/devices/virtual/hwmon/hwmon3", "drivetemp", temp1_input="31000")
    for core in range(4):
        found.write(f"{CPU}/cpu{core}/cpufreq/scaling_cur_freq", "3600000\n")
        found.write(f"{CPU}/cpu{core}/thermal_throttle/core_throttle_count", f"{core}\n")
    return found


def virtual_machine(root: Path) -> Recorded:
    """Return a guest of KVM: a disk of virtio without a serial number, stolen time, no sensors."""
    found = _base(
        Recorded(root),
        cores=2,
        stat="100 0 50 700 10 0 5 35 0 0",
        meminfo="MemTotal: 4000000 kB\nMemFree: 500000 kB\nMemAvailable: 3000000 kB\nSwapTotal: 1000000 kB\n"
        "SwapFree: 900000 kB\n",
        mounts="26 1 253:1 / / rw - ext4 /dev/vda1 rw\n",
    )
    _pressure(found)
    _disk(found, "vda", "253 0", "")
    _network(found, "lo", "eth0")
    found.write("sys/class/net/eth0/address", "52:54:00:aa:bb:cc\n")
    return found


def system_container(root: Path) -> Recorded:
    """Return a container of LXC: lxcfs says what memory it may use; no pressure, no vmstat, no disks of its own."""
    found = _base(
        Recorded(root),
        cores=1,
        stat="100 0 50 850 0 0 0 0 0 0",
        meminfo="MemTotal: 524288 kB\nMemFree: 100000 kB\nMemAvailable: 262144 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
        mounts="26 1 0:50 / / rw - zfs rpool/data/subvol-101-disk-0 rw\n"
        "27 26 0:51 / /proc/meminfo rw - fuse.lxcfs lxcfs rw\n",
    )
    (root / "proc/vmstat").unlink()
    found.write("proc/diskstats", "")
    _network(found, "lo", "eth0")
    found.write("sys/class/net/eth0/address", "bc:24:11:00:00:01\n")
    return found
