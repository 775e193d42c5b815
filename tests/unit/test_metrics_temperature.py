"""Temperatures: found once, read cheaply, never from what a reading disturbs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from homelab_agent.metrics.collectors.temperature import Temperature
from homelab_agent.metrics.host import NotAvailable
from homelab_agent.metrics.settings import MetricsSettings
from tests.recorded import Recorded, values

CORE = "sys/devices/platform/coretemp.0/hwmon/hwmon3"


def chip(recorded: Recorded, directory: str, name: str, **files: str) -> None:
    recorded.write(f"{directory}/name", f"{name}\n")
    for file, content in files.items():
        recorded.write(f"{directory}/{file}", f"{content}\n")
    recorded.link(f"sys/class/hwmon/{directory.rpartition('/')[2]}", "../../../" + directory)


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
    found = Temperature(recorded.host, MetricsSettings()).collect()
    assert [one.entity.label for one in found["temperature"]] == [
        "nvme Composite", "coretemp Package id 0", "coretemp Core 0",
    ]  # fmt: skip
    package = values(found, "temperature", "coretemp Package id 0")
    assert (package["celsius"], package["high_celsius"], package["critical_celsius"]) == (54.0, 100.0, 110.0)
    assert found["temperature"][1].entity.key == "coretemp platform/coretemp.0 Package id 0"


def test_labels_and_limits_are_read_once(recorded: Recorded) -> None:
    temperature = Temperature(recorded.host, MetricsSettings())
    temperature.collect()
    recorded.write(f"{CORE}/temp1_label", "changed\n")
    recorded.write(f"{CORE}/temp1_input", "60000\n")
    assert values(temperature.collect(), "temperature", "coretemp Package id 0")["celsius"] == 60.0


def test_a_chip_that_comes_later_is_found(recorded: Recorded) -> None:
    temperature = Temperature(recorded.host, MetricsSettings())
    temperature.collect()
    chip(recorded, "sys/devices/usb1/hwmon9", "corsair", temp1_input="41000")
    assert values(temperature.collect(), "temperature", "corsair temp1")["celsius"] == 41.0


def test_a_chip_that_does_not_answer_delays_no_other(recorded: Recorded) -> None:
    directory = "sys/devices/i2c/hwmon2"
    chip(recorded, directory, "hangs")
    os.mkfifo(recorded.root / directory / "temp1_input")  # opening it waits for a writer that never comes
    temperature = Temperature(recorded.host, MetricsSettings(collector_deadline=0.2))
    assert len(temperature.collect()["temperature"]) == 3
    assert set(temperature.silent) == {"hangs i2c"}


def test_a_host_without_sensors_has_none(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        Temperature(Recorded(tmp_path).host, MetricsSettings()).collect()
