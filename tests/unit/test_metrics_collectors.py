"""CPU, memory, load, pressure, disk, network: from recorded trees, and against what this host says otherwise."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from homelab_agent.metrics import rates
from homelab_agent.metrics.collectors.agent import Agent
from homelab_agent.metrics.collectors.cpu import MAY_FALL, Cpu, shares
from homelab_agent.metrics.collectors.disk import Disk
from homelab_agent.metrics.collectors.load import Load, Pressure
from homelab_agent.metrics.collectors.memory import Memory
from homelab_agent.metrics.collectors.network import Network
from homelab_agent.metrics.host import Host, NotAvailable
from homelab_agent.metrics.settings import MetricsSettings
from tests.recorded import Recorded, values

SETTINGS = MetricsSettings()
STAT = """cpu  {total}
cpu0 {zero}
cpu1 50 0 50 900 0 0 0 0 0 0
intr 1234567 33 0 9 0
ctxt {switches}
btime 1700000000
processes 4321
procs_running 3
procs_blocked 1
softirq 99 1 2
"""


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


def grown(before: list[int], after: list[int]) -> rates.Growth:
    """Return how a processor's ticks grew in ten seconds."""
    return rates.growth(before, after, 10.0, longest=25.0, may_fall=MAY_FALL)


def test_cpu_shares_are_of_the_time_between_two_readings(recorded: Recorded) -> None:
    recorded.write(
        "proc/stat",
        STAT.format(total="100 0 100 1800 0 0 0 0 0 0", zero="50 0 50 900 0 0 0 0 0 0", switches=1000),
    )
    cpu = Cpu(recorded.host, SETTINGS)
    first = values(cpu.collect(), "cpu")
    assert first["user_s"] == 100 / os.sysconf("SC_CLK_TCK")
    assert first["busy_pct"] is None
    recorded.write(
        "proc/stat",
        STAT.format(total="400 0 200 2300 100 0 0 0 100 0", zero="350 0 150 1400 100 0 0 0 100 0", switches=3500),
    )
    recorded.now += 10
    families = cpu.collect()
    total = values(families, "cpu")
    assert [total[f"{mode}_pct"] for mode in ("user", "system", "idle", "iowait", "guest")] == [
        30,
        10,
        50,
        10,
        10,
    ]
    assert total["busy_pct"] == 40
    assert total["context_switches_per_s"] == 250
    assert (total["runnable"], total["blocked"], total["interrupts"]) == (3, 1, 1234567)
    assert values(families, "cpu_core", "0")["user_pct"] == 30
    assert values(families, "cpu_core", "1")["busy_pct"] is None  # no tick passed


def test_what_of_a_kernels_counts_is_missing_for_once_makes_no_spike(recorded: Recorded) -> None:
    cpu, seen = Cpu(recorded.host, SETTINGS), []
    for switches in ("ctxt 5000000000\n", "", "ctxt 5000000600\n", "ctxt 5000001200\n"):
        recorded.write("proc/stat", f"cpu  1 2 3 4 5 6 7\ncpu0 1 2 3 4 5 6 7\n{switches}processes 9\n")
        found = values(cpu.collect(), "cpu")
        seen.append((found["context_switches_per_s"], found["forks_per_s"]))
        recorded.now += 10
    assert seen == [(None, None), (None, 0), (None, 0), (60, 0)]


def test_what_a_container_hides_of_swapping_for_once_makes_no_spike(recorded: Recorded) -> None:
    recorded.write("proc/meminfo", "MemTotal: 1000 kB\n")
    memory, seen = Memory(recorded.host, SETTINGS), []
    for faults in ("pgmajfault 900000\n", "", "pgmajfault 900010\n", "pgmajfault 900020\n"):
        recorded.write("proc/vmstat", f"pswpin 1\npswpout 2\n{faults}oom_kill 0\n")
        found = values(memory.collect(), "memory")
        seen.append((found["major_faults_per_s"], found["swap_in_bytes_per_s"], found["reset"]))
        recorded.now += 10
    assert seen == [(None, None, False), (None, 0, False), (None, 0, False), (1, 0, False)]


def test_what_the_agent_wrote_and_could_not_be_read_for_once_makes_no_spike(recorded: Recorded) -> None:
    recorded.write("proc/self/statm", "1000 500 200 1 0 300 0\n")
    agent, seen = Agent(recorded.host, SETTINGS), []
    for written in ("write_bytes: 9000000\n", "", "write_bytes: 9000100\n", "write_bytes: 9000200\n"):
        recorded.write("proc/self/io", f"rchar: 1\n{written}")
        found = values(agent.collect(), "agent", "agent")
        seen.append((found["written_bytes_per_s"], found["cpu_pct"] is None))
        recorded.now += 10
    assert seen == [(None, True), (None, False), (None, False), (10, False)]


def test_a_core_whose_times_fall_was_reset_and_says_so() -> None:
    found = shares(grown([500, 0, 0, 500, 0, 0, 0, 0, 0, 0], [3, 0, 0, 900, 0, 0, 0, 0, 0, 0]))
    assert found["reset"] is True
    assert {value for name, value in found.items() if name != "reset"} == {None}


def test_iowait_and_steal_may_fall_and_then_have_no_share() -> None:
    found = shares(grown([100, 0, 0, 100, 50, 0, 0, 7, 0, 0], [150, 0, 0, 150, 40, 0, 0, 5, 0, 0]))
    assert (found["iowait_pct"], found["steal_pct"], found["reset"]) == (None, None, False)
    assert (found["user_pct"], found["idle_pct"], found["busy_pct"]) == (50, 50, 50)


def test_an_old_kernel_counts_fewer_modes(recorded: Recorded) -> None:
    recorded.write("proc/stat", "cpu  1 2 3 4 5 6 7\ncpu0 1 2 3 4 5 6 7\nctxt 5\n")
    total = values(Cpu(recorded.host, SETTINGS).collect(), "cpu")
    assert (total["steal_s"], total["forks"], total["interrupts"]) == (0, None, None)


def test_cpu_agrees_with_psutil() -> None:
    cpu, before = Cpu(Host("here"), SETTINGS), psutil.cpu_times()
    found, after = values(cpu.collect(), "cpu"), psutil.cpu_times()
    for mode in ("user", "system", "idle", "iowait", "steal", "guest"):
        assert getattr(before, mode) <= float(str(found[f"{mode}_s"])) <= getattr(after, mode)


def test_memory_agrees_with_free() -> None:
    found = values(Memory(Host("here"), SETTINGS).collect(), "memory")
    lines = subprocess.run(["free", "--bytes"], capture_output=True, text=True, check=True).stdout.splitlines()
    total, *_, available = (int(word) for word in lines[1].split()[1:])
    assert found["total_bytes"] == total
    assert found["available_bytes"] == pytest.approx(available, rel=0.02)
    assert found["swap_total_bytes"] == int(lines[2].split()[1])


def test_memory_where_a_container_hides_things(recorded: Recorded) -> None:
    recorded.write("proc/meminfo", "MemTotal: 1000 kB\nMemFree: 400 kB\n")
    found = values(Memory(recorded.host, SETTINGS).collect(), "memory")
    assert found["total_bytes"] == 1_024_000
    assert found["used_bytes"] is None
    assert found["oom_kills"] is None


def test_swap_traffic_is_in_bytes(recorded: Recorded) -> None:
    recorded.write("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 250 kB\n")
    recorded.write("proc/vmstat", "pswpin 10\npswpout 20\nzswpin 5\npgmajfault 7\noom_kill 0\n")
    memory = Memory(recorded.host, SETTINGS)
    memory.collect()
    recorded.write("proc/vmstat", "pswpin 30\npswpout 20\npgmajfault 17\noom_kill 1\n")
    recorded.now += 10
    found = values(memory.collect(), "memory")
    page = os.sysconf("SC_PAGE_SIZE")
    assert (found["swap_in_bytes"], found["swap_in_bytes_per_s"]) == (30 * page, 2 * page)
    assert (found["major_faults_per_s"], found["oom_kills"], found["used_pct"]) == (1, 1, 75)


def test_load_agrees_with_the_system() -> None:
    found = values(Load(Host("here"), SETTINGS).collect(), "load")
    assert found["load1"] == pytest.approx(os.getloadavg()[0], abs=0.5)
    assert found["uptime_s"] == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=1)


def test_pressure_is_a_share_of_time(recorded: Recorded) -> None:
    line = "{kind} avg10=1.50 avg60=0.00 avg300=0.00 total={total}\n"
    for resource in ("cpu", "memory", "io"):
        recorded.write(f"proc/pressure/{resource}", line.format(kind="some", total=1_000_000))
    pressure = Pressure(recorded.host, SETTINGS)
    pressure.collect()
    recorded.write("proc/pressure/io", line.format(kind="some", total=3_500_000) + line.format(kind="full", total=9))
    recorded.now += 10
    found = values(pressure.collect(), "pressure", "io")
    assert (found["some_s"], found["some_pct"], found["some_avg10_pct"]) == (3.5, 25, 1.5)


def test_a_kernel_without_pressure_has_none(recorded: Recorded) -> None:
    with pytest.raises(NotAvailable):
        Pressure(recorded.host, SETTINGS).collect()


DISK = """   8   0 sda {} 0 {} 40 100 0 200 50 2 1000 3000 0 0 0 0 0 0
   8   1 sda1 1 0 8 4 1 0 2 5 0 1 3
   7   0 loop0 5 0 8 4 1 0 2 5 0 1 3
"""


def test_disk_rates_come_from_whole_disks(recorded: Recorded) -> None:
    for name in ("sda", "loop0"):
        (recorded.root / "sys/block" / name).mkdir(parents=True)
    recorded.link("dev/disk/by-id/ata-Some_Disk_123", "../../sda")
    recorded.link("dev/disk/by-id/wwn-0x5000c500a", "../../sda")
    recorded.link("dev/disk/by-id/wwn-0x5000c500a-part1", "../../sda1")
    recorded.write("proc/diskstats", DISK.format(10, 1000))
    disk = Disk(recorded.host, SETTINGS)
    disk.collect()
    recorded.write("proc/diskstats", DISK.format(30, 3000))
    recorded.now += 10
    families = disk.collect()
    assert [reading.entity.key for reading in families["disk"]] == ["wwn-0x5000c500a"]
    found = families["disk"][0].values
    assert (found["device"], found["read_bytes"], found["in_flight"]) == ("sda", 3000 * 512, 2)
    assert (found["reads_per_s"], found["read_bytes_per_s"], found["written_bytes_per_s"]) == (2, 102400, 0)
    assert (found["read_await_s"], found["write_await_s"], found["busy_s"]) == (0, None, 1)


def test_milliseconds_that_the_kernel_keeps_in_32_bits_go_round(recorded: Recorded) -> None:
    """After 49.7 days of work, sooner for the weighted time; a reset takes them back, and says so."""
    line, disk, seen = "   8   0 sda {} 0 8 {} {} 0 8 {} 0 {} {} 0 0 0 0 0 0\n", None, []
    recorded.write("sys/block/sda/size", "1000\n")
    late = 2**32 - 1000
    for counts in ((50, late, 90, 70, late, late), (150, 1000, 91, 71, 4000, 19000), (2, 900, 2, 3, 3900, 18900)):
        recorded.write("proc/diskstats", line.format(*counts))
        disk = disk or Disk(recorded.host, SETTINGS)
        seen.append(disk.collect()["disk"][0].values)
        recorded.now += 10
    _, round_, reset = seen
    assert (round_["reads_per_s"], round_["read_await_s"], round_["busy_pct"], round_["queue"]) == (10, 0.02, 50, 2)
    assert (round_["reset"], reset["reset"], reset["busy_pct"]) == (False, True, None)


def test_a_disk_keeps_its_identity_when_the_kernel_renames_it(recorded: Recorded) -> None:
    ids = []
    for name in ("sda", "sdb"):
        host = Recorded(recorded.root / name)
        (host.root / "sys/block" / name).mkdir(parents=True)
        host.link("dev/disk/by-id/wwn-0x5000c500a", f"../../{name}")
        host.write("proc/diskstats", DISK.format(1, 2).replace("sda ", f"{name} "))
        ids += [reading.entity.id for reading in Disk(host.host, SETTINGS).collect()["disk"]]
    assert ids[0] == ids[1]


def test_two_disks_of_one_serial_number_stay_two(recorded: Recorded) -> None:
    for name in ("sda", "sdb"):
        recorded.write(f"sys/block/{name}/wwid", "usb.cheap\n")
    recorded.write("proc/diskstats", DISK.format(1, 2) + DISK.format(1, 2).replace("sda ", "sdb "))
    assert len({reading.entity.id for reading in Disk(recorded.host, SETTINGS).collect()["disk"]}) == 2


def test_disks_agree_with_psutil() -> None:
    found = {str(one.values["device"]): one.values for one in Disk(Host("here"), SETTINGS).collect()["disk"]}
    there = psutil.disk_io_counters(perdisk=True, nowrap=False)
    for device, row in found.items():
        assert row["read_bytes"] == pytest.approx(there[device].read_bytes, rel=0.01)
        assert row["written_bytes"] == pytest.approx(there[device].write_bytes, rel=0.01)


DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo:  9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0
  eth0:{} 20 1 2 0 0 0 0 {} 10 3 4 0 0 0 0
"""
VPN = "   wg0: {} 20 0 0 0 0 0 0 500 10 0 0 0 0 0 0\n veth12: 1 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n"


def test_network_rates_links_and_filters(recorded: Recorded) -> None:
    recorded.write("sys/class/net/eth0/address", "52:54:00:aa:bb:cc\n")
    recorded.write("sys/class/net/eth0/carrier", "1\n")
    recorded.write("sys/class/net/eth0/speed", "1000\n")
    recorded.write("proc/net/dev", DEV.format(1000, 2000) + VPN.format(300))
    network = Network(recorded.host, SETTINGS)
    assert {one.entity.label for one in network.collect()["network"]} == {"eth0", "wg0"}
    recorded.write("proc/net/dev", DEV.format(11000, 2500))
    recorded.now += 10
    families = network.collect()
    found = values(families, "network", "eth0")
    assert len(families["network"]) == 1  # the VPN went away: it is absent, and takes nothing from the rest
    assert (found["rx_bytes_per_s"], found["tx_bytes_per_s"]) == (1000, 50)
    assert (found["carrier"], found["up"], found["speed_bytes_per_s"]) == (True, True, 125_000_000)
    assert families["network"][0].entity.key == "52:54:00:aa:bb:cc eth0"


def test_an_adapter_exchanged_for_another_is_another_entity(recorded: Recorded) -> None:
    recorded.write("sys/class/net/eth0/address", "52:54:00:aa:bb:cc\n")
    recorded.write("proc/net/dev", DEV.format(10**9, 10**9))
    network = Network(recorded.host, SETTINGS)
    network.collect()
    recorded.write("sys/class/net/eth0/address", "52:54:00:dd:ee:ff\n")
    recorded.write("proc/net/dev", DEV.format(2 * 10**9, 10**9))
    recorded.now += 61
    found = network.collect()["network"]
    assert found[0].entity.key.startswith("52:54:00:dd:ee:ff")
    assert (found[0].values["rx_bytes_per_s"], found[0].values["reset"]) == (None, False)


def test_an_interface_may_be_called_anything(recorded: Recorded) -> None:
    recorded.write("proc/net/dev", DEV.format(1000, 2000))
    with (recorded.root / "proc/net/dev").open("ab") as dev:
        dev.write(b"na\xefve: 7 20 0 0 0 0 0 0 500 10 0 0 0 0 0 0\n")
    found = Network(recorded.host, SETTINGS).collect()
    assert values(found, "network", r"na\xefve")["rx_bytes"] == 7


def test_network_agrees_with_ip() -> None:
    if shutil.which("ip") is None:
        pytest.skip("iproute2 is not installed")
    found = {one.entity.label: one.values for one in Network(Host("here"), SETTINGS).collect()["network"]}
    output = subprocess.run(["ip", "-json", "-stats", "link"], capture_output=True, text=True, check=True).stdout
    there = {link["ifname"]: link for link in json.loads(output)}
    for name, row in found.items():
        assert row["rx_packets"] == pytest.approx(there[name]["stats64"]["rx"]["packets"], rel=0.01, abs=50)
        assert row["tx_errors"] == there[name]["stats64"]["tx"]["errors"]
        assert row["carrier"] == (there[name]["operstate"] in {"UP", "UNKNOWN"})


def test_the_agents_own_cost_agrees_with_the_kernels_books() -> None:
    agent = Agent(Host("here"), SETTINGS)
    agent.notice = {"late_ms": 1.5}
    found = values(agent.collect(), "agent", "agent")
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert found["rss_bytes"] == pytest.approx(resident, rel=0.05)
    assert found["late_ms"] == 1.5
    assert found["cpu_pct"] is None
