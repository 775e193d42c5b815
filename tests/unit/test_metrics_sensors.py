"""Temperatures and fans: found once, read cheaply, never from what a reading disturbs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from homelab_agent.metrics.collectors.sensors import Sensors
from homelab_agent.metrics.host import NotAvailable
from homelab_agent.metrics.settings import MetricsSettings
from tests.machines import chip
from tests.recorded import Recorded, values

CORE = "sys/devices/platform/coretemp.0/hwmon/hwmon3"


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    found = Recorded(tmp_path)
    chip(found, CORE, "coretemp", temp1_input="54000", temp1_label="Package id 0", temp1_max="100000",
         temp1_crit="110000", temp2_input="51500", temp2_label="Core 0")  # fmt: skip
    chip(found, "sys/devices/pci0/nvme/nvme0/hwmon1", "nvme", temp1_input="38850", temp1_label="Composite")
    chip(found, "sys/devices/pci0/ata1/hwmon5", "drivetemp", temp1_input="30000")
    chip(found, "sys/devices/w1/28-0001/hwmon6", "w1_slave_temp", temp1_input="21000")
    return found


def test_every_sensor_has_a_stable_name_and_its_limits(recorded: Recorded) -> None:
    found = Sensors(recorded.host, MetricsSettings()).collect()
    assert [one.entity.label for one in found["temperature"]] == [
        "nvme Composite", "coretemp Package id 0", "coretemp Core 0",
    ]  # fmt: skip
    package = values(found, "temperature", "coretemp Package id 0")
    assert (package["celsius"], package["high_celsius"], package["critical_celsius"]) == (54.0, 100.0, 110.0)
    assert found["temperature"][1].entity.key == "coretemp platform/coretemp.0 Package id 0"


def test_a_fan_has_its_speed_and_the_least_it_should_have(recorded: Recorded) -> None:
    board = "sys/devices/platform/nct6775.656/hwmon/hwmon7"
    chip(recorded, board, "nct6798", fan1_input="0", fan1_min="300", fan2_input="1187", temp1_input="33000")
    found = Sensors(recorded.host, MetricsSettings()).collect()
    stands, turns = values(found, "fan", "nct6798 fan1"), values(found, "fan", "nct6798 fan2")
    assert (stands["rpm"], stands["low_rpm"]) == (0, 300)
    assert (turns["rpm"], turns["low_rpm"], turns["device"]) == (1187, None, "platform/nct6775.656")
    assert values(found, "temperature", "nct6798 temp1")["celsius"] == 33.0


def test_labels_and_limits_are_read_once(recorded: Recorded) -> None:
    sensors = Sensors(recorded.host, MetricsSettings())
    sensors.collect()
    recorded.write(f"{CORE}/temp1_label", "changed\n")
    recorded.write(f"{CORE}/temp1_input", "60000\n")
    assert values(sensors.collect(), "temperature", "coretemp Package id 0")["celsius"] == 60.0


def test_a_chip_that_comes_later_is_found(recorded: Recorded) -> None:
    sensors = Sensors(recorded.host, MetricsSettings())
    sensors.collect()
    chip(recorded, "sys/devices/usb1/hwmon9", "corsair", temp1_input="41000")
    assert values(sensors.collect(), "temperature", "corsair temp1")["celsius"] == 41.0


def test_a_chip_that_does_not_answer_delays_no_other(recorded: Recorded) -> None:
    directory = "sys/devices/i2c/hwmon2"
    chip(recorded, directory, "hangs")
    os.mkfifo(recorded.root / directory / "temp1_input")  # opening it waits for a writer that never comes
    sensors = Sensors(recorded.host, MetricsSettings(collector_deadline=0.2))
    assert len(sensors.collect()["temperature"]) == 3
    assert set(sensors.silent) == {"hangs i2c"}


def test_a_host_without_sensors_has_none(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        Sensors(Recorded(tmp_path).host, MetricsSettings()).collect()
