"""What `doctor unit` makes of what systemd says: each fault, with what mends it; which drop-ins loosen the sandbox."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from homelab_agent import capabilities, config, places
from homelab_agent.core.health import State
from homelab_agent.unit import comparison, power, sandbox
from homelab_agent.unit.asking import HALF, HALF_SOCKET, RESUME, SERVICE, SOCKET, UNITS, Running, Unit

UNIT_FILES = Path(__file__).parents[2] / "deploy/systemd"
CURRENT = Path("/opt/homelab-agent/releases/1.0.0-abc")
PYTHON = CURRENT / "bin/python3.11"


def installed(**changed: Mapping[str, str]) -> dict[str, Unit]:
    """Return the units as they are after `make install`; `changed` are properties of one, by `service`, `socket` ..."""
    names = dict(zip(("service", "socket", "half", "half_socket", "resume"), UNITS, strict=True))
    units = {}
    for short, name in names.items():
        text = (UNIT_FILES / name).read_text()
        enabled = "static" if name == HALF else "enabled"
        at_rest = name in {HALF, RESUME}
        shown = {"Id": name, "LoadState": "loaded", "ActiveState": "inactive" if at_rest else "active"}
        more = {"UnitFileState": enabled, "FragmentPath": f"/usr/local/lib/systemd/system/{name}"}
        units[name] = Unit(name, {**shown, **more, **changed.get(short, {})}, text=text, release=text)
    return units


def test_what_is_as_installed_is_ok() -> None:
    for judge in (comparison.of_enabling, comparison.of_sockets, comparison.of_files):
        assert judge(installed()).state is State.OK
    found = comparison.of_sandbox(installed(), {SERVICE: 1.7, HALF: 7.6, RESUME: 6.3})
    assert (found.state, found.detail) == (
        State.OK,
        "exposure, of 10: homelab-agent 1.7, homelab-agent-privileged 7.6, homelab-agent-resume 6.3",
    )
    assert comparison.of_program(Running(PYTHON), CURRENT, PYTHON).state is State.OK


def test_a_unit_that_is_not_enabled_is_named_with_the_command() -> None:
    found = comparison.of_enabling(installed(service={"UnitFileState": "disabled"}))
    assert (found.state, found.repair) == (State.FAILED, f"sudo systemctl enable --now {SERVICE}")
    found = comparison.of_enabling(installed(socket={"LoadState": "not-found"}))
    assert (found.state, SOCKET in found.detail, "make install" in found.repair) == (State.FAILED, True, True)
    found = comparison.of_enabling(installed(service={"ActiveState": "failed", "ExecMainStatus": "78"}))
    assert (found.state, "exit code 78" in found.detail) == (State.FAILED, True)


def test_a_socket_that_is_off_is_named_with_the_command() -> None:
    found = comparison.of_sockets(installed(half_socket={"ActiveState": "inactive"}))
    assert (found.state, found.repair) == (State.FAILED, f"sudo systemctl start {HALF_SOCKET}")
    found = comparison.of_sockets(installed(socket={"ActiveState": "failed"}))
    assert (found.state, found.repair) == (State.FAILED, f"sudo systemctl restart {SOCKET} {SERVICE}")


def test_a_file_that_is_not_the_releases_is_named() -> None:
    units = installed()
    units[SERVICE] = dataclasses.replace(units[SERVICE], text="[Service]\n")
    found = comparison.of_files(units)
    assert (found.state, SERVICE in found.detail, "make install" in found.repair) == (State.FAILED, True, True)
    assert comparison.of_files(installed(half={"NeedDaemonReload": "yes"})).state is State.DEGRADED


@pytest.mark.parametrize(
    ("program", "repair"),
    [
        (CURRENT.parent / "0.9.0-old/bin/python3.11", "sudo systemctl restart homelab-agent"),
        (Path("/usr/bin/python3"), f"systemctl cat {SERVICE}"),
    ],
)
def test_another_interpreter_is_named(program: Path, repair: str) -> None:
    found = comparison.of_program(Running(program), CURRENT, PYTHON)
    assert (found.state, found.repair.startswith(repair)) == (State.FAILED, True)


LOOSE = (
    "ProtectSystem=full",
    "ProtectHome=no",
    "PrivateDevices=false",
    "NoNewPrivileges=no",
    "User=root",
    "SupplementaryGroups=docker",
    "AmbientCapabilities=CAP_SYS_ADMIN",
    "CapabilityBoundingSet=CAP_CHOWN",
    "ReadWritePaths=/etc",
    "DeviceAllow=/dev/sda rw",
    "RestrictAddressFamilies=",
    "RestrictAddressFamilies=AF_PACKET",
    "SystemCallFilter=",
    "SystemCallFilter=@mount",
    "MemoryDenyWriteExecute=0",
    "UMask=0022",
)
TIGHT = ("ProtectHome=read-only", "MemoryMax=512M", "PrivateTmp=yes", "Environment=A=b", "SystemCallFilter=~@ipc")


@pytest.mark.parametrize("line", LOOSE)
def test_a_drop_in_that_loosens_the_sandbox_is_named_line_by_line(line: str) -> None:
    units = installed()
    path = f"/etc/systemd/system/{SERVICE}.d/override.conf"
    units[SERVICE] = dataclasses.replace(units[SERVICE], drop_ins={path: f"[Unit]\nAfter=x\n[Service]\n{line}\n"})
    found = comparison.of_sandbox(units, {SERVICE: 1.5})
    assert (found.state, line in found.detail, path in found.repair) == (State.DEGRADED, True, True)


@pytest.mark.parametrize("line", TIGHT)
def test_a_drop_in_that_does_not_is_nobodys_business(line: str) -> None:
    text = (UNIT_FILES / SERVICE).read_text()
    assert sandbox.loosened(text, f"[Service]\n{line}\n") == []
    assert sandbox.loosened(text, f"# [Service]\n[Unit]\n{line}\n[Service]\n# {LOOSE[0]}\n") == []


def test_what_systemd_finds_more_exposed_is_told() -> None:
    assert comparison.of_sandbox(installed(), {SERVICE: 1.8}).state is State.DEGRADED


def test_each_verb_of_the_root_half_has_words() -> None:
    settings = config.Settings()
    where = places.whereabouts(None, settings)
    known = set()
    for name in capabilities.NAMES:
        if capabilities.has_room(name, "verbs"):
            section = capabilities.import_room(name, "settings").__dict__[f"{name.capitalize()}Settings"]()
            known |= {verb.name for verb in capabilities.import_room(name, "verbs").build(section, where)}
    assert known == set(power.DEEDS)
    assert "delete a copy" in power.told(["backup_forget"])
    assert "nothing" in power.told([])
