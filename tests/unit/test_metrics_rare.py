"""Frequency, a Raspberry Pi's firmware, arrays of disks: from recorded trees of machines that have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from homelab_agent.metrics.collectors.frequency import Frequency
from homelab_agent.metrics.collectors.raid import Raid
from homelab_agent.metrics.collectors.throttling import Throttling
from homelab_agent.metrics.host import NotAvailable
from homelab_agent.metrics.settings import MetricsSettings
from tests.machines import CPU, FIRMWARE, array, raspberry
from tests.recorded import Recorded, values

SETTINGS = MetricsSettings()


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return raspberry(tmp_path)


def test_each_core_has_its_frequency_and_its_bounds(recorded: Recorded) -> None:
    recorded.write(f"{CPU}/cpu3/cpufreq/scaling_cur_freq", "600000\n")
    found = Frequency(recorded.host, SETTINGS).collect()
    assert [values(found, "frequency", str(core))["hertz"] for core in range(4)] == [1_500_000_000] * 3 + [600_000_000]
    last = values(found, "frequency", "3")
    assert (last["minimum_hertz"], last["maximum_hertz"]) == (600_000_000, 1_800_000_000)
    assert (last["throttles"], last["throttles_per_s"]) == (None, None)


def test_what_heat_has_slowed_is_counted_and_a_counter_that_fell_was_reset(recorded: Recorded) -> None:
    recorded.write(f"{CPU}/cpu0/thermal_throttle/core_throttle_count", "10\n")
    recorded.write(f"{CPU}/cpu0/thermal_throttle/package_throttle_count", "12\n")
    frequency = Frequency(recorded.host, SETTINGS)
    frequency.collect()
    recorded.now += 60
    recorded.write(f"{CPU}/cpu0/thermal_throttle/core_throttle_count", "40\n")
    slowed = values(frequency.collect(), "frequency", "0")
    assert (slowed["throttles"], slowed["throttles_per_s"], slowed["package_throttles"]) == (40, 0.5, 12)
    recorded.now += 60
    recorded.write(f"{CPU}/cpu0/thermal_throttle/core_throttle_count", "1\n")
    fallen = values(frequency.collect(), "frequency", "0")
    assert (fallen["throttles_per_s"], fallen["reset"]) == (None, True)


def test_where_samples_are_rarer_than_slow_families_may_be_heat_is_counted_all_the_same(recorded: Recorded) -> None:
    recorded.write(f"{CPU}/cpu0/thermal_throttle/core_throttle_count", "10\n")
    frequency = Frequency(recorded.host, MetricsSettings(interval=300))
    frequency.collect()
    recorded.now += 300
    recorded.write(f"{CPU}/cpu0/thermal_throttle/core_throttle_count", "40\n")
    assert values(frequency.collect(), "frequency", "0")["throttles_per_s"] == 0.1


def test_a_core_that_was_off_line_counts_on_without_a_spike(recorded: Recorded) -> None:
    count = f"{CPU}/cpu0/thermal_throttle/core_throttle_count"
    frequency, seen = Frequency(recorded.host, SETTINGS), []
    for throttles in ("9000\n", "\n", "9060\n", "9120\n"):
        recorded.write(count, throttles)
        found = values(frequency.collect(), "frequency", "0")
        seen.append((found["throttles_per_s"], found["reset"]))
        recorded.now += 60
    assert seen == [(None, False), (None, False), (None, False), (1, False)]


def test_a_core_that_is_off_line_is_left_out_until_it_is_back(recorded: Recorded) -> None:
    frequency = Frequency(recorded.host, SETTINGS)
    current = f"{CPU}/cpu2/cpufreq/scaling_cur_freq"
    (recorded.root / current).unlink()
    assert [one.entity.key for one in frequency.collect()["frequency"]] == ["0", "1", "3"]
    recorded.write(current, "1800000\n")
    assert values(frequency.collect(), "frequency", "2")["hertz"] == 1_800_000_000


def test_the_firmwares_bits_say_what_is_and_what_was(recorded: Recorded) -> None:
    throttling = Throttling(recorded.host, SETTINGS)
    weak = values(throttling.collect(), "throttling")
    assert {name for name, value in weak.items() if value} == {
        "under_voltage", "under_voltage_since_boot", "throttled", "throttled_since_boot",
    }  # fmt: skip
    recorded.write(FIRMWARE, "e0000\n")
    past = values(throttling.collect(), "throttling")
    assert {name for name, value in past.items() if value} == {
        "capped_since_boot", "throttled_since_boot", "too_warm_since_boot",
    }  # fmt: skip


def test_an_array_says_what_it_lacks_and_how_far_it_is_with_it(recorded: Recorded) -> None:
    raid = Raid(recorded.host, SETTINGS)
    [whole] = raid.collect()["raid"]
    assert whole.entity.key == "md-uuid-1:2:3:4"
    assert (whole.values["state"], whole.values["missing"], whole.values["synced_pct"]) == ("clean", 0, None)
    states = {"sda1": "in_sync", "sdb1": "faulty", "sdc1": "spare"}
    more = {"degraded": "1", "sync_action": "recover", "sync_completed": "250 / 1000", "mismatch_cnt": "128"}
    array(recorded, "md0", disks=2, states=states, **more)
    [hurt] = raid.collect()["raid"]
    assert hurt.values == {
        "device": "md0", "level": "raid1", "state": "clean", "action": "recover", "disks": 2, "missing": 1, "failed": 1,
        "spares": 1, "mismatches": 128, "synced_pct": 25.0,
    }  # fmt: skip


def test_a_stripe_has_nothing_to_sync(recorded: Recorded) -> None:
    array(recorded, "md9", disks=2, states={"sdd": "in_sync", "sde": "in_sync"}, level="raid0")
    for name in ("sync_action", "sync_completed", "degraded", "mismatch_cnt"):
        (recorded.root / "sys/block/md9/md" / name).unlink()
    found = values(Raid(recorded.host, SETTINGS).collect(), "raid", "md9")
    assert (found["level"], found["action"], found["missing"], found["mismatches"]) == ("raid0", "", None, None)


@pytest.mark.parametrize("kind", [Frequency, Throttling, Raid])
def test_a_virtual_machine_has_none_of_them(kind: type[Frequency | Throttling | Raid], tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        kind(Recorded(tmp_path).host, SETTINGS).collect()
