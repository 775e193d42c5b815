"""A real systemd is read as `systemctl show` and node_exporter read it, and what is done to its units is seen."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from homelab_agent.metrics import bus, commands, failures
from homelab_agent.metrics.bus import Bus
from homelab_agent.metrics.collectors.units import Units
from homelab_agent.metrics.exposition import Exposition
from homelab_agent.metrics.host import Host
from homelab_agent.metrics.latest import Latest
from homelab_agent.metrics.sample import Reading
from homelab_agent.metrics.settings import MetricsSettings
from tests.neighbours.machine import Machine
from tests.neighbours.neighbour import program
from tests.unit.test_metrics_exposition import parsed, quality
from tests.user import UID, acting_as
from tests.waiting import until

SETTINGS = MetricsSettings()
PROPERTIES = "Id,LoadState,ActiveState,SubState,Type,NRestarts,StateChangeTimestamp"
FLAKY = """
[Unit]
StartLimitIntervalSec=60
StartLimitBurst=3
[Service]
ExecStart=/bin/false
Restart=on-failure
RestartSec=10ms
"""
STEADY = "[Service]\nExecStart=/bin/sleep infinity\nRestart=always\nRestartSec=10ms\n"


class Looks:
    """One look after the other at a machine's units, on a clock that goes on by a minute each time."""

    def __init__(self, machine: Machine) -> None:
        self.now = 100.0
        self._units = Units(Host("machine", machine.path("/"), monotonic=lambda: self.now), SETTINGS)

    def __call__(self) -> Mapping[str, Reading]:
        self.now += 60
        return {one.entity.label: one for one in self._units.collect()["unit"]}


@pytest.fixture
def look(machine: Machine) -> Looks:
    return Looks(machine)


def shown_by_systemctl(machine: Machine) -> Mapping[str, Mapping[str, str]]:
    """Return the properties of every loaded unit, by name."""
    argv = ["show", "--all", "--timestamp=unix", f"--property={PROPERTIES}", *SETTINGS.units_include]
    blocks = machine.systemctl(*argv).split("\n\n")
    units = [dict(line.split("=", 1) for line in block.splitlines()) for block in blocks]
    return {unit["Id"]: unit for unit in units if unit["LoadState"] == "loaded"}


def test_every_unit_stands_as_systemctl_says(machine: Machine, look: Looks) -> None:
    machine.install("steady.service", STEADY)
    machine.systemctl("start", "steady.service")
    found, theirs = look(), shown_by_systemctl(machine)
    for name, reading in found.items():
        values, said = reading.values, theirs[name]
        assert [values["state"], values["substate"]] == [said["ActiveState"], said["SubState"]], name
        since = values["since"]
        assert (f"@{int(since.timestamp())}" if isinstance(since, datetime) else "") == said["StateChangeTimestamp"], (
            name
        )
        assert values["type"] == said.get("Type", ""), name
        assert values["restarts"] == (int(said["NRestarts"]) if "NRestarts" in said else None), name
    assert "dbus.service" in found
    assert not [name for name in theirs.keys() - found.keys() if name.endswith((".timer", ".socket"))]


def test_a_service_that_does_not_come_up_has_failed_with_its_restarts(machine: Machine, look: Looks) -> None:
    assert "flaky.service" not in look()
    machine.install("flaky.service", FLAKY)
    machine.systemctl("start", "--no-block", "flaky.service")
    until(lambda: machine.show("flaky.service")["ActiveState"] == "failed", "systemd gives it up")
    failed = look()["flaky.service"]
    assert (failed.values["state"], failed.values["failed"], failed.values["result"]) == ("failed", True, "exit-code")
    assert failed.values["restarts"] == int(machine.show("flaky.service")["NRestarts"]) > 0
    finding = failures.of_units([failed])
    assert finding.detail.startswith("failed: flaky.service (exit-code, since 20")
    machine.systemctl("reset-failed", "flaky.service")
    assert look()["flaky.service"].values["state"] == "unloaded"
    assert "flaky.service" not in look()


def runs_again(machine: Machine, restarts: int) -> bool:
    found = machine.show("steady.service")
    return (found["NRestarts"], found["SubState"]) == (str(restarts), "running")


def test_what_systemd_starts_again_is_counted_and_what_a_person_restarts_is_seen(machine: Machine, look: Looks) -> None:
    machine.install("steady.service", STEADY)
    machine.systemctl("start", "steady.service")
    first = look()["steady.service"]
    assert (first.values["restarts"], first.values["restarted"]) == (0, None)
    assert not look()["steady.service"].news
    for restarts in (1, 2):
        machine.systemctl("kill", "--signal=KILL", "steady.service")
        until(partial(runs_again, machine, restarts), "systemd has started it again")
    killed = look()["steady.service"]
    assert (killed.values["restarts"], killed.values["restarted"], killed.news) == (2, 2, True)
    machine.systemctl("restart", "steady.service")
    by_hand = look()["steady.service"]
    assert (by_hand.values["restarts"], by_hand.values["restarted"], by_hand.values["reset"]) == (0, None, True)
    assert str(by_hand.values["since"]) > str(killed.values["since"])


def test_one_look_asks_more_than_the_bus_takes_at_once(machine: Machine) -> None:
    with Bus(machine.path(bus.SOCKET), patience=10) as asked:
        [unit] = asked.units(["dbus.service"])
        wanted = [bus.Property(unit.path, "Unit", "Id")] * 1000
        assert asked.read(wanted) == ["dbus.service"] * 1000
        gone = bus.Property(f"{unit.path}_gone", "Unit", "ActiveState")
        assert asked.read([gone, bus.Property(unit.path, "Unit", "NoSuchThing")]) == [None, None]


def test_an_agent_that_is_nobody_may_ask_too(machine: Machine) -> None:
    directory = os.open(machine.path("/run/dbus"), os.O_PATH)  # nobody may not go through the machine's root
    try:
        with acting_as(UID), Bus(Path(f"/proc/self/fd/{directory}") / Path(bus.SOCKET).name, patience=10) as asked:
            [unit] = asked.units(["dbus.service"])
            assert (unit.active, unit.sub) == ("active", "running")
            assert asked.read([bus.Property(unit.path, "Service", "NRestarts")]) == [0]
    finally:
        os.close(directory)


EXPORTER = """
[Service]
ExecStart={program} --web.listen-address={address} --collector.disable-defaults --collector.systemd \\
  --collector.systemd.enable-restarts-metrics --collector.systemd.unit-exclude=none
"""
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"


def test_they_are_called_as_node_exporter_calls_them(machine: Machine, look: Looks) -> None:
    exporter = program("prometheus-node-exporter", "apt install prometheus-node-exporter")
    address = "127.0.0.1:9100"
    machine.install("steady.service", STEADY)
    machine.install("exporter.service", EXPORTER.format(program=exporter, address=address))
    machine.systemctl("start", "steady.service", "exporter.service")
    asking = ["python3", "-c", ASK, f"http://{address}/metrics"]
    until(lambda: machine.run(*asking).returncode == 0, "node_exporter answers")
    latest = Latest()
    latest.take({"unit": list(look().values())}, quality(), 100.0)
    ours, theirs = parsed(Exposition(latest, lambda: 100.0).text().decode()), parsed(machine(*asking))
    for name in ("node_systemd_unit_state", "node_systemd_service_restart_total"):
        assert len(ours[name]) > 10
        for labels, value in ours[name].items():
            assert value == theirs[name][labels], dict(labels)


def test_the_command_lists_them_with_what_has_failed_first(machine: Machine, look: Looks) -> None:
    machine.install("flaky.service", FLAKY)
    machine.systemctl("start", "--no-block", "flaky.service")
    until(lambda: machine.show("flaky.service")["ActiveState"] == "failed", "systemd gives it up")
    head, lines = commands._list(list(look().values()), commands._LISTED["unit"])
    assert head == ("", "state", "substate", "since", "restarts", "result")
    assert [lines[0][place] for place in (0, 1, 5)] == ["flaky.service", "failed", "exit-code"]
    assert str(lines[0][3]).endswith(" UTC")
