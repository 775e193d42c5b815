"""The last hour's charts: in order, with gaps drawn as gaps, and never a sum of what is not known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from homelab_agent.metrics import recent
from homelab_agent.metrics.entity import Entities
from homelab_agent.metrics.recent import Recent
from homelab_agent.metrics.sample import Families, Reading, Values

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ENTITIES = Entities("here")


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def families(busy: float | None = 20.0, **received: float | None) -> Families:
    def one(family: str, label: str, values: Values) -> Reading:
        return Reading(ENTITIES.get(family, label), values)

    disk: Values = {"read_bytes_per_s": 100.0, "written_bytes_per_s": 50.0}
    return {
        "cpu": [one("cpu", "total", {"busy_pct": busy})],
        "memory": [one("memory", "total", {"used_bytes": 3 * 2**30, "total_bytes": 16 * 2**30})],
        "disk": [one("disk", device, {"device": device, **disk}) for device in ("sda", "sdb", "md0", "dm-0")],
        "network": [
            one("network", name, {"rx_bytes_per_s": rate, "tx_bytes_per_s": None}) for name, rate in received.items()
        ],
    }


def test_the_four_charts_and_their_words() -> None:
    hour = Recent()
    hour.take(families(eth0=1000.0, wg0=48.0), at(0))
    cpu, memory, disk, network = hour.charts(10)
    assert (cpu.now, cpu.maximum, cpu.series[0].points) == ("20\u00a0%", 100.0, [(NOON, 20.0)])
    assert (memory.now, memory.maximum) == ("3.0\u00a0GiB of 16.0\u00a0GiB", 16 * 2**30)
    assert disk.series[0].points == [(NOON, 200.0)]  # md0 and dm-0 lie on sda and sdb
    assert disk.now == "200\u00a0B/s read, 100\u00a0B/s written"
    assert network.now == "1.0\u00a0KiB/s received"  # what was sent is not known


def test_an_interface_that_vanishes_leaves_no_spike() -> None:
    hour = Recent()
    hour.take(families(eth0=1000.0, wg0=5e9), at(0))
    hour.take(families(eth0=1000.0), at(10))
    hour.take(families(eth0=1000.0, wg0=None), at(20))
    assert [value for _, value in hour.charts(10)[3].series[0].points] == [5e9 + 1000, 1000, 1000]


def test_what_is_missing_is_a_gap() -> None:
    hour = Recent()
    for seconds in (0, 10, 70, 80):
        hour.take(families(), at(seconds))
    hour.take(families(busy=None), at(90))
    values = [value for _, value in hour.charts(10)[0].series[0].points]
    assert values == [20, 20, None, 20, 20, None]


def test_after_a_clock_set_back_the_chart_still_runs_from_left_to_right() -> None:
    hour = Recent()
    for seconds in (0, 10, 20, 30, 15, 25):
        hour.take(families(), at(seconds))
    times = [time for time, _ in hour.charts(10)[0].series[0].points]
    assert times == sorted(times)
    assert times[-1] == at(25)


def test_an_hour_is_kept_and_no_more_than_a_chart_can_show() -> None:
    hour = Recent()
    for seconds in range(2 * 3600):
        hour.take(families(), at(seconds))
    points = hour.charts(1)[0].series[0].points
    assert 355 <= len(points) <= 362
    assert points[-1][0] - points[0][0] <= timedelta(hours=1)


def test_before_the_first_value_a_chart_says_nothing() -> None:
    assert [chart.now for chart in Recent().charts(10)] == [""] * 4
    hour = Recent()
    hour.take({}, at(0))
    assert [chart.now for chart in hour.charts(10)] == [""] * 4
    hour.take(families(), at(10))
    hour.take({}, at(20))
    assert [chart.now for chart in hour.charts(10)] == [""] * 4


def test_sizes_are_written_as_people_read_them() -> None:
    sizes = [0, 999, 1000, 1536, 200_000, 1023 * 1024, 3 * 2**30, 5 * 2**40]
    words = ["0 B", "999 B", "1.0 KiB", "1.5 KiB", "195 KiB", "1.0 MiB", "3.0 GiB", "5.0 TiB"]
    assert [recent.size(size).replace("\u00a0", " ") for size in sizes] == words
