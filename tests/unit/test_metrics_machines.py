"""All collectors together on recorded machines of several kinds: what each gives, and what it is said to lack."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from homelab_agent.core.clock import Drift, Instant
from homelab_agent.core.spool import Scalar
from homelab_agent.metrics import facts
from homelab_agent.metrics.collection import Collection, Taken
from homelab_agent.metrics.collectors.cpu import Cpu
from homelab_agent.metrics.collectors.disk import Disk
from homelab_agent.metrics.collectors.filesystem import Filesystem
from homelab_agent.metrics.collectors.load import RESOURCES, Pressure
from homelab_agent.metrics.collectors.memory import Memory
from homelab_agent.metrics.collectors.network import Network
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.sample import Status
from homelab_agent.metrics.settings import MetricsSettings
from homelab_agent.metrics.ticker import Tick
from tests.machines import bare_metal, raspberry, system_container, virtual_machine
from tests.recorded import Recorded, values

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
EVERYWHERE = {"cpu", "memory", "load", "agent", "network", "filesystem"}


async def look(recorded: Recorded) -> tuple[Collection, Taken]:
    """Return what all collectors make of a machine."""
    collection = Collection(recorded.host, MetricsSettings())
    taken = await collection.take(Tick(NOON, Instant(NOON, recorded.now, recorded.now), 0, Drift(0, 0)))
    return collection, taken


@pytest.mark.parametrize(
    ("machine", "more"),
    [
        (bare_metal, {"pressure", "disk", "frequency", "sensors"}),
        (virtual_machine, {"pressure", "disk"}),
        (system_container, set()),
    ],
)
async def test_a_machine_gives_what_it_has_and_lacks_the_rest_in_words(
    machine: Callable[[Path], Recorded], more: set[str], tmp_path: Path
) -> None:
    collection, taken = await look(machine(tmp_path))
    answered = {name for name, (status, _) in taken.collectors.items() if status is Status.OK}
    assert answered == EVERYWHERE | more
    assert {status for status, _ in taken.collectors.values()} <= {Status.OK, Status.NOT_AVAILABLE}
    assert collection.trouble == {}
    assert collection.lacking.keys() == taken.collectors.keys() - answered
    assert all(collection.lacking.values())


async def test_bare_metal_has_its_sensors_disks_and_links_by_names_that_stay(tmp_path: Path) -> None:
    _, taken = await look(bare_metal(tmp_path))
    families = taken.families
    warm = {one.entity.label: one.values["celsius"] for one in families["temperature"]}
    assert warm == {"k10temp Tctl": 55.125, "nvme Composite": 38.85}  # drivetemp would keep its disk awake
    assert values(families, "temperature", "nvme Composite")["critical_celsius"] == 84.85
    assert values(families, "fan", "nct6798 fan2")["low_rpm"] == 300
    assert {one.entity.key for one in families["disk"]} == {"nvme-eui.0025385a91b00001", "wwn-0x5000c500a1b2c3d4"}
    assert {one.entity.label for one in families["network"]} == {"enp5s0", "wg0"}
    link = values(families, "network", "enp5s0")
    assert (link["speed_bytes_per_s"], link["carrier"]) == (312_500_000, True)
    assert values(families, "frequency", "3")["throttles"] == 3
    assert len(families["cpu_core"]) == 4


async def test_a_guest_tells_what_was_stolen_and_its_disk_goes_by_what_there_is(tmp_path: Path) -> None:
    _, taken = await look(virtual_machine(tmp_path))
    assert values(taken.families, "cpu")["steal_s"] == pytest.approx(0.35)
    assert [one.entity.key for one in taken.families["disk"]] == ["vda"]
    assert values(taken.families, "memory")["swap_used_pct"] == 10
    assert not {"temperature", "fan", "frequency"} & taken.families.keys()


async def test_a_container_of_lxc_tells_what_lxcfs_says_and_nothing_that_is_its_hosts(tmp_path: Path) -> None:
    collection, taken = await look(system_container(tmp_path))
    memory = values(taken.families, "memory")
    assert (memory["total_bytes"], memory["used_pct"], memory["oom_kills"]) == (512 * 2**20, 50, None)
    assert [one.entity.label for one in taken.families["filesystem"]] == ["/"]
    assert "psi=1" in collection.lacking["pressure"]
    assert "disks" in collection.lacking["disk"]


async def test_a_raspberry_pi_says_what_its_firmware_does(tmp_path: Path) -> None:
    recorded = raspberry(tmp_path)
    _, taken = await look(recorded)
    answered = {name for name, (status, _) in taken.collectors.items() if status is Status.OK}
    assert {"frequency", "throttling", "raid", "sensors"} <= answered
    assert values(taken.families, "throttling")["under_voltage"] is True


def test_a_disk_that_comes_and_goes_takes_nothing_from_the_others(tmp_path: Path) -> None:
    recorded = bare_metal(tmp_path)
    disk = Disk(recorded.host, MetricsSettings())
    disk.collect()
    line = " {} 0 {} 100 0 2000 40 200 0 {} 50 0 1000 90 0 0 0 0\n"
    recorded.write("sys/block/sdb/size", "1000\n")
    recorded.now += 10
    recorded.write("proc/diskstats", line.format(259, "nvme0n1", 5000) + line.format(8, "sdb", 9 * 10**9))
    found = {str(one.values["device"]): one.values["written_bytes_per_s"] for one in disk.collect()["disk"]}
    assert found == {"nvme0n1": 1000 * 512 / 10, "sdb": None}  # new: no rate yet; sda is gone, and is not nought
    recorded.now += 10
    recorded.write("proc/diskstats", line.format(259, "nvme0n1", 5000) + line.format(8, "sda", 4000))
    found = {str(one.values["device"]): one.values["written_bytes_per_s"] for one in disk.collect()["disk"]}
    assert found == {"nvme0n1": 0, "sda": None}  # back again: how long it was away is not known


def known(disk: Disk, device: str) -> tuple[str, Scalar]:
    """Return by what a disk is known now, and what it reads per second."""
    [found] = [one for one in disk.collect()["disk"] if one.values["device"] == device]
    return found.entity.key, found.values["reads_per_s"]


def test_a_disk_that_was_there_before_udev_had_a_name_for_it_gets_that(tmp_path: Path) -> None:
    recorded = virtual_machine(tmp_path)
    (tmp_path / "dev/disk/by-id").mkdir(parents=True)
    disk = Disk(recorded.host, MetricsSettings())
    assert known(disk, "vda") == ("vda", None)
    recorded.link("dev/disk/by-id/virtio-1234", "../../vda")
    os.utime(tmp_path / "dev/disk/by-id", (1, 1))  # another time, for all that its clock is coarse
    recorded.now += 10
    assert known(disk, "vda") == ("virtio-1234", None)
    recorded.now += 10
    assert known(disk, "vda") == ("virtio-1234", 0)


def test_a_disk_that_is_exchanged_between_two_looks_is_another(tmp_path: Path) -> None:
    recorded = bare_metal(tmp_path)
    disk = Disk(recorded.host, MetricsSettings())
    assert known(disk, "sda") == ("wwn-0x5000c500a1b2c3d4", None)
    (tmp_path / "dev/disk/by-id/wwn-0x5000c500a1b2c3d4").unlink()
    recorded.link("dev/disk/by-id/wwn-0x5000c500ffffffff", "../../sda")
    os.utime(tmp_path / "dev/disk/by-id", (1, 1))
    recorded.now += 10
    assert known(disk, "sda") == ("wwn-0x5000c500ffffffff", None)
    assert known(disk, "nvme0n1")[0] == "nvme-eui.0025385a91b00001"


def test_without_udev_an_exchanged_disk_is_seen_within_a_minute(tmp_path: Path) -> None:
    recorded = virtual_machine(tmp_path)
    recorded.write("sys/block/vda/wwid", "t10.one\n")
    disk = Disk(recorded.host, MetricsSettings())
    assert known(disk, "vda") == ("t10.one", None)
    recorded.write("sys/block/vda/wwid", "t10.two\n")
    recorded.now += 60
    assert known(disk, "vda") == ("t10.two", None)


def test_what_is_no_link_takes_no_name_from_the_others(tmp_path: Path) -> None:
    """As with a link that is removed while it is read."""
    recorded = bare_metal(tmp_path)
    recorded.link("dev/disk/by-uuid/1111-2222", "../../nvme0n1p2")
    for directory in ("by-id", "by-uuid"):
        for name in ("ata-0", "wwn-9", "zz"):
            recorded.write(f"dev/disk/{directory}/{name}", "no link\n")
    keys = {one.entity.key for one in Disk(recorded.host, MetricsSettings()).collect()["disk"]}
    assert keys == {"nvme-eui.0025385a91b00001", "wwn-0x5000c500a1b2c3d4"}
    [root] = Filesystem(recorded.host, MetricsSettings()).collect()["filesystem"]
    assert root.entity.key == "1111-2222 /"
    known = facts.read(recorded.host, MetricsSettings())
    assert known["mount", "/"] == "ext4 1111-2222"
    assert ("disk", "wwn-0x5000c500a1b2c3d4") in known


def test_an_interface_that_comes_and_goes_takes_nothing_from_the_others(tmp_path: Path) -> None:
    recorded = virtual_machine(tmp_path)
    network = Network(recorded.host, MetricsSettings())
    network.collect()
    rows = {
        "eth0": "eth0: 6000 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0\n",
        "tun0": "tun0: 7 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n",
    }
    seen = []
    for names in (("eth0", "tun0"), ("eth0",), ("eth0", "tun0")):
        recorded.now += 10
        recorded.write("proc/net/dev", "head\nhead\n" + "".join(rows[name] for name in names))
        found = network.collect()["network"]
        seen.append({one.entity.label: (one.values["rx_bytes_per_s"], one.values["reset"]) for one in found})
    assert seen == [
        {"eth0": (500, False), "tun0": (None, False)},
        {"eth0": (0, False)},
        {"eth0": (0, False), "tun0": (None, False)},
    ]


def test_inodes_agree_with_df() -> None:
    found = values(Filesystem(Host("here"), MetricsSettings(mounts_include=["/"])).collect(), "filesystem", "/")
    words = subprocess.run(["df", "--output=itotal,iavail", "/"], capture_output=True, text=True, check=True).stdout
    total, free = (int(word) for word in words.split()[-2:])
    assert found["inodes"] == total
    assert found["inodes_free"] == pytest.approx(free, abs=total / 1000)


def test_switches_forks_and_interrupts_agree_with_psutil() -> None:
    cpu, before = Cpu(Host("here"), MetricsSettings()), psutil.cpu_stats()
    found, after = values(cpu.collect(), "cpu"), psutil.cpu_stats()
    assert before.ctx_switches <= int(str(found["context_switches"])) <= after.ctx_switches
    assert before.interrupts <= int(str(found["interrupts"])) <= after.interrupts


def test_faults_and_swapping_agree_with_vmstat() -> None:
    def said() -> dict[str, int]:
        lines = subprocess.run(["vmstat", "-s"], capture_output=True, text=True, check=True).stdout.splitlines()
        return {line.strip().partition(" ")[2].strip(): int(line.split()[0]) for line in lines}

    before = said()
    memory = values(Memory(Host("here"), MetricsSettings()).collect(), "memory")
    forks = int(str(values(Cpu(Host("here"), MetricsSettings()).collect(), "cpu")["forks"]))
    after = said()
    page = os.sysconf("SC_PAGE_SIZE")
    for column, words in {"swap_in_bytes": "pages swapped in", "swap_out_bytes": "pages swapped out"}.items():
        assert before[words] * page <= int(str(memory[column])) <= after[words] * page
    assert before["forks"] <= forks <= after["forks"]


def test_pressure_agrees_with_the_kernels_own_books() -> None:
    if not Path("/proc/pressure/cpu").exists():
        pytest.skip("this kernel does not count pressure: boot it with psi=1")

    def total(resource: str) -> float:
        return int(Path(f"/proc/pressure/{resource}").read_text().splitlines()[0].rpartition("total=")[2]) / 1e6

    before = {resource: total(resource) for resource in RESOURCES}
    families = Pressure(Host("here"), MetricsSettings()).collect()
    for resource in RESOURCES:
        assert before[resource] <= float(str(values(families, "pressure", resource)["some_s"])) <= total(resource)
