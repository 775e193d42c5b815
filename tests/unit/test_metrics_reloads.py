"""New settings that come while a collector is looking: the next look goes by them, whatever the one before has kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from homelab_agent.metrics.collectors import Collector
from homelab_agent.metrics.collectors.disk import Disk
from homelab_agent.metrics.collectors.filesystem import Filesystem
from homelab_agent.metrics.collectors.network import Network
from homelab_agent.metrics.collectors.sensors import Sensors
from homelab_agent.metrics.collectors.units import Seen, Units
from homelab_agent.metrics.entity import Entities, Entity
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.settings import MetricsSettings
from tests.machines import bare_metal

SETTINGS = MetricsSettings()


class Meanwhile(Entities):
    """Entities of a host on which something happens, once, when a collector has found the first of them."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__("recorded")
        self._happens: Callable[[], None] | None = happens

    def get(self, family: str, key: str, label: str = "") -> Entity:
        happens, self._happens = self._happens, None
        if happens is not None:
            happens()
        return super().get(family, key, label)


def meanwhile(host: Host, happens: Callable[[], None]) -> None:
    object.__setattr__(host, "entities", Meanwhile(happens))


@pytest.mark.parametrize(
    ("kind", "family", "filters", "left"),
    [
        (Disk, "disk", {"disks_exclude": ["nvme*"]}, ["wwn-0x5000c500a1b2c3d4"]),
        (Network, "network", {"interfaces_exclude": ["enp*", "lo", "docker*", "veth*"]}, ["wg0"]),
        (Filesystem, "filesystem", {"mounts_exclude": ["/"]}, ["/srv"]),
        (Sensors, "temperature", {"sensors_exclude": ["nvme*", "drivetemp*"]}, ["k10temp Tctl"]),
    ],
)
def test_filters_that_come_in_the_middle_of_a_look_count_from_the_next(
    kind: Callable[[Host, MetricsSettings], Collector],
    family: str,
    filters: dict[str, Any],
    left: list[str],
    tmp_path: Path,
) -> None:
    recorded = bare_metal(tmp_path)
    mounts = "26 1 259:2 / / rw - ext4 /dev/nvme0n1p2 rw\n27 26 8:1 / /srv rw - ext4 /dev/sda1 rw\n"
    recorded.write("proc/1/mountinfo", mounts)
    collector = kind(recorded.host, SETTINGS)
    meanwhile(recorded.host, lambda: collector.adopt(MetricsSettings(**filters)))
    assert len(collector.collect()[family]) == 2
    assert [one.entity.label for one in collector.collect()[family]] == left


def test_a_unit_that_is_left_out_in_the_middle_of_a_look_is_not_taken_for_forgotten(tmp_path: Path) -> None:
    recorded = bare_metal(tmp_path)
    units = Units(recorded.host, SETTINGS)
    runs = Seen("active", "running", "simple", 0)
    meanwhile(recorded.host, lambda: units.adopt(MetricsSettings(units_exclude=["cron.service"])))
    units.readings({"cron.service": runs, "nginx.service": runs})
    assert [one.entity.label for one in units.readings({"nginx.service": runs})] == ["nginx.service"]
