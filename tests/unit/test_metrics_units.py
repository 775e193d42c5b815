"""Units of systemd: what is told of them when, and what a host without systemd says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from homelab_agent.core.health import State
from homelab_agent.metrics import bus, failures, rows
from homelab_agent.metrics.bus import Bus, BusSilent
from homelab_agent.metrics.collectors.units import REFRESH_SECONDS, Seen, Units
from homelab_agent.metrics.host import NotAvailable
from homelab_agent.metrics.sample import Reading
from homelab_agent.metrics.settings import MetricsSettings, shown
from tests.recorded import Recorded, values

SETTINGS = MetricsSettings()
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
RUNS = Seen("active", "running", "simple", 0, None, NOON)


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


def told(units: Units, **seen: Seen) -> Mapping[str, Reading]:
    """Return what is told of services that stand so."""
    return {
        one.entity.label.removesuffix(".service"): one
        for one in units.readings({f"{name}.service": standing for name, standing in seen.items()})
    }


def news(readings: Mapping[str, Reading]) -> set[str]:
    return {name for name, one in readings.items() if one.news}


def test_a_row_is_made_of_what_has_changed_and_of_all_now_and_then(recorded: Recorded) -> None:
    units = Units(recorded.host, SETTINGS)
    assert news(told(units, nginx=RUNS, cron=RUNS)) == {"nginx", "cron"}
    recorded.now += 60
    assert news(told(units, nginx=RUNS, cron=RUNS)) == set()
    recorded.now += 60
    failed = Seen("failed", "failed", "simple", 0, "exit-code", NOON)
    third = told(units, nginx=failed, cron=RUNS)
    assert news(third) == {"nginx"}
    assert [row.values["state"] for row in rows.of_families({"unit": list(third.values())}, NOON)] == ["failed"]
    recorded.now = 100 + REFRESH_SECONDS
    assert news(told(units, nginx=failed, cron=RUNS)) == {"cron"}
    recorded.now += 120
    assert news(told(units, nginx=failed, cron=RUNS)) == {"nginx"}


def test_a_service_that_somebody_has_restarted_stands_as_before_but_since_then(recorded: Recorded) -> None:
    units = Units(recorded.host, SETTINGS)
    told(units, nginx=RUNS)
    recorded.now += 60
    again = told(units, nginx=Seen("active", "running", "simple", 0, None, NOON.replace(hour=13)))
    assert news(again) == {"nginx"}


def test_restarts_are_counted_and_a_counter_that_fell_says_nothing(recorded: Recorded) -> None:
    units = Units(recorded.host, SETTINGS)
    found = []
    for restarts in (3, 5, 5, 0):
        [one] = told(units, flaky=Seen("active", "running", "simple", restarts, None, NOON)).values()
        found.append((one.values["restarts"], one.values["restarted"], one.values["reset"], one.news))
        recorded.now += 60
    assert found == [(3, None, False, True), (5, 2, False, True), (5, 0, False, False), (0, None, True, True)]


def test_what_systemd_has_forgotten_is_told_once(recorded: Recorded) -> None:
    units = Units(recorded.host, SETTINGS)
    told(units, nginx=RUNS, once=RUNS)
    recorded.now += 60
    gone = told(units, nginx=RUNS)
    assert (news(gone), gone["once"].values["state"], gone["once"].values["failed"]) == ({"once"}, "unloaded", False)
    assert set(told(units, nginx=RUNS)) == {"nginx"}


def test_where_samples_are_rarer_than_slow_families_may_be_restarts_are_counted_all_the_same(
    recorded: Recorded,
) -> None:
    units = Units(recorded.host, MetricsSettings(interval=300))
    told(units, nginx=RUNS)
    recorded.now += 300
    assert told(units, nginx=replace(RUNS, restarts=2))["nginx"].values["restarted"] == 2


def test_other_filters_make_nothing_look_forgotten(recorded: Recorded) -> None:
    units = Units(recorded.host, SETTINGS)
    told(units, nginx=RUNS, cron=RUNS)
    units.adopt(MetricsSettings(units_exclude=["cron.service"]))
    assert set(told(units, nginx=RUNS)) == {"nginx"}


@pytest.mark.parametrize(
    ("name", "is_shown"),
    [
        ("docker.service", True),
        ("srv-media.mount", True),
        ("apt-daily.timer", True),
        ("run-docker-netns-4f1c.mount", False),
        (r"var-lib-docker-overlay2-0a1b\x2dmerged.mount", False),
        ("user@1000.service", False),
        ("sys-kernel-debug.mount", False),
        ("dev-sda1.device", False),
        ("session-3.scope", False),
    ],
)
def test_what_comes_and_goes_is_left_out_unless_asked_for(name: str, *, is_shown: bool) -> None:
    assert shown(name, SETTINGS.units_include, SETTINGS.units_exclude) is is_shown


def test_a_container_has_no_systemd_and_a_host_may_have_no_bus(recorded: Recorded) -> None:
    units = Units(recorded.host, SETTINGS)
    with pytest.raises(NotAvailable, match="has no systemd"):
        units.collect()
    (recorded.root / "run/systemd/system").mkdir(parents=True)
    with pytest.raises(NotAvailable, match="apt install dbus"):
        units.collect()


def test_what_has_failed_is_named_with_its_reason(recorded: Recorded) -> None:
    units = Units(recorded.host, SETTINGS)
    fine = failures.of_units(list(told(units, nginx=RUNS).values()))
    assert (fine.state, fine.detail) == (State.OK, "no unit of 1 has failed")
    bad = {f"bad{number}": Seen("failed", "failed", "simple", 0, "exit-code", NOON) for number in range(7)}
    finding = failures.of_units(list(told(units, nginx=RUNS, **bad).values()))
    assert finding.state is State.DEGRADED
    assert finding.detail.startswith("failed: bad0.service (exit-code, since 2026-11-24 12:00 UTC), bad1")
    assert finding.detail.endswith(", and 2 more")
    assert finding.repair == "systemctl status bad0.service"
    assert finding.about == {f"bad{number}.service" for number in range(7)}
    later = Seen("failed", "failed", "simple", 0, "exit-code", NOON.replace(hour=13))
    newest = failures.of_units(list(told(units, **bad, bad9=later).values()))
    assert newest.detail.startswith("failed: bad9.service (exit-code, since 2026-11-24 13:00 UTC), bad0"), "is not cut"


def answering(path: Path, answers: Sequence[bytes]) -> threading.Thread:
    """Answer one connection, a piece for each that is received, and end it: what no real bus can be made to do."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def answer() -> None:
        with server, server.accept()[0] as connection:
            for piece in answers:
                connection.recv(65536)
                connection.sendall(piece)

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


@pytest.mark.parametrize("answers", [[], [b"REJECTED EXTERNAL\r\n"], [b"OK 1234\r\n", b"l\x02\x01"]])
def test_a_bus_that_refuses_or_ends_in_the_middle_is_said(tmp_path: Path, answers: Sequence[bytes]) -> None:
    thread = answering(tmp_path / "bus", answers)
    with pytest.raises(BusSilent) as raised, Bus(tmp_path / "bus", patience=5):
        pass
    thread.join()
    assert "busctl" in raised.value.repair


def test_a_bus_that_says_nothing_is_waited_for_so_long_and_no_longer(recorded: Recorded) -> None:
    (recorded.root / "run/systemd/system").mkdir(parents=True)
    path = recorded.host.path(bus.SOCKET)
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with pytest.raises(BusSilent, match="timed out"):
            Units(recorded.host, MetricsSettings(collector_deadline=0.1)).collect()


def test_values_have_the_families_columns(recorded: Recorded) -> None:
    units = Units(recorded.host, SETTINGS)
    found = values({"unit": units.readings({"x.service": RUNS})}, "unit", "x.service")
    assert (found["active"], found["since"], found["type"]) == (True, NOON, "simple")
