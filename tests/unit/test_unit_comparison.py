"""What `doctor unit` makes of what systemd says: each fault, with what mends it; which drop-ins loosen the sandbox."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from homelab_agent import capabilities, config, places
from homelab_agent.core.health import Finding, State
from homelab_agent.unit import asking, comparison, power
from homelab_agent.unit.asking import (
    CREDENTIALS,
    HALF,
    HALF_SOCKET,
    RESUME,
    SERVICE,
    SOCKET,
    UNITS,
    Credentials,
    Running,
    Sandbox,
    Unit,
)

UNIT_FILES = Path(__file__).parents[2] / "deploy/systemd"
CURRENT = Path("/opt/homelab-agent/releases/1.0.0-abc")
PYTHON = CURRENT / "bin/python3.11"
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")


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
    found = comparison.of_sandbox(
        installed(), {SERVICE: Sandbox(1.7, {}), HALF: Sandbox(7.6, {}), RESUME: Sandbox(6.3, {})}
    )
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
    "PrivateTmp=f",
    "LockPersonality=n",
    "MemoryDenyWriteExecute=0",
    "NoNewPrivileges=no",
    "User=root",
    "User=www-data",
    "Group=docker",
    "SupplementaryGroups=docker",
    "AmbientCapabilities=CAP_SYS_ADMIN",
    "CapabilityBoundingSet=CAP_CHOWN",
    "ReadWritePaths=/etc",
    "BindPaths=/etc",
    "DeviceAllow=/dev/sda rw",
    "RestrictAddressFamilies=",
    "RestrictAddressFamilies=AF_PACKET",
    "RestrictNamespaces=user mnt",
    "SystemCallArchitectures=native x86",
    "SystemCallFilter=",
    "SystemCallFilter=@mount",
    "SystemCallFilter=@privileged",
    "UMask=0022",
    "Delegate=yes",
    "ExecStartPre=+/bin/true",
    "ExecStart=\nExecStart=-+/bin/true",
    "ExecStart=\nExecStart=!/bin/true",
    "PermissionsStartOnly=yes",
)
TIGHT = (
    "ProtectHome=read-only",
    "MemoryMax=512M",
    "PrivateTmp=yes",
    "PrivateTmp=t",
    "Environment=A=b",
    "SystemCallFilter=~@ipc",
    "RestrictNamespaces=1",
    "ExecStartPre=-/bin/sh -c '[ 1+1 ]'",
    "RestrictAddressFamilies=AF_INET",
)


async def judged(directory: Path, name: str, line: str) -> Finding:
    """Return what is found where that line is in a drop-in; systemd-analyze itself says what it amounts to."""
    units, drop_in = installed(), directory / f"{name}.d/override.conf"
    (directory / name).write_text(units[name].text)
    drop_in.parent.mkdir()
    drop_in.write_text(f"# [Service]\n[Unit]\nAfter=x\n[Service]\n# {LOOSE[0]}\n{line}\n")
    units[name] = dataclasses.replace(units[name], drop_ins={str(drop_in): drop_in.read_text()})
    now, released = [await asking.left_open(name, place) for place in (directory, UNIT_FILES)]
    return comparison.of_sandbox(units, {name: Sandbox(1.5, now, released)})


@needs_systemd
@pytest.mark.parametrize("line", LOOSE)
async def test_a_drop_in_that_loosens_the_sandbox_is_named_line_by_line(tmp_path: Path, line: str) -> None:
    found = await judged(tmp_path, SERVICE, line)
    assert (found.state, f": {line.splitlines()[-1]};" in found.detail) == (State.DEGRADED, True), found
    assert f"{tmp_path}/{SERVICE}.d/override.conf" in found.repair


@needs_systemd
@pytest.mark.parametrize("line", ["NoNewPrivileges=n", "CapabilityBoundingSet=~", "ExecStartPost=+/bin/true"])
async def test_so_is_one_of_what_resumes(tmp_path: Path, line: str) -> None:
    found = await judged(tmp_path, RESUME, line)
    assert (found.state, f": {line};" in found.detail) == (State.DEGRADED, True), found


@needs_systemd
@pytest.mark.parametrize("line", TIGHT)
async def test_a_drop_in_that_does_not_is_nobodys_business(tmp_path: Path, line: str) -> None:
    assert (await judged(tmp_path, SERVICE, line)).state is State.OK


def test_of_several_each_is_named_and_a_line_is_said_of_its_own() -> None:
    units = installed()
    for name in (SERVICE, RESUME):
        drop_in = {f"/etc/{name}.d/x.conf": f"[Service]\nReadWritePaths=/of/{name}\n"}
        units[name] = dataclasses.replace(units[name], drop_ins=drop_in)
    assert comparison.of_sandbox(units, {}).detail == (
        f"/etc/{SERVICE}.d/x.conf loosens the sandbox: ReadWritePaths=/of/{SERVICE}; "
        f"/etc/{RESUME}.d/x.conf loosens the sandbox: ReadWritePaths=/of/{RESUME}"
    )


def test_without_systemd_analyze_what_the_words_alone_say_is_told() -> None:
    units = installed()
    units[RESUME] = dataclasses.replace(units[RESUME], drop_ins={"/etc/x.conf": "[Service]\nExecStart=+/bin/true\n"})
    assert "/etc/x.conf loosens the sandbox: ExecStart=+/bin/true" in comparison.of_sandbox(units, {}).detail


def test_what_systemd_finds_more_exposed_is_told() -> None:
    assert comparison.of_sandbox(installed(), {SERVICE: Sandbox(1.8, {})}).state is State.DEGRADED
    found = comparison.of_sandbox(installed(), {SERVICE: Sandbox(1.5, {"ProtectHome": 0.2}, {"ProtectHome": 0.1})})
    assert (found.state, "ProtectHome=" in found.detail) == (State.DEGRADED, True), "no drop-in says so"
    assert (" rm " in found.repair, "sudo make install" in found.repair) == (False, True), "the unit stays"


def given(*names: str, files: Collection[str] | None = None) -> Credentials:
    there = {name: CREDENTIALS / name for name in names}
    return Credentials(there, set(names) if files is None else files)


TOKEN = {"api-token": ["web.api_token"]}


def test_credentials_that_are_there_given_and_needed_are_ok() -> None:
    assert comparison.of_credentials(given("api-token"), TOKEN).state is State.OK
    assert comparison.of_credentials(given("api-token", files={"api-token.cred"}), TOKEN).state is State.OK
    elsewhere = Credentials({"api-token": Path("/srv/token")}, set())
    assert comparison.of_credentials(elsewhere, TOKEN).state is State.OK
    assert (
        comparison.of_credentials(Credentials({"api-token": CREDENTIALS / "api-token"}, None), TOKEN).state is State.OK
    )


@pytest.mark.parametrize(
    ("found", "state", "said", "repair"),
    [
        (given(), State.FAILED, "no credential api-token, which web.api_token names", f"write it to {CREDENTIALS}"),
        (
            given(files={"api-token"}),
            State.FAILED,
            "not given /etc/homelab-agent/credentials/api-token yet",
            "sudo make",
        ),
        (given("api-token", files=set()), State.FAILED, "does not start again", "make install"),
        (
            given("api-token", files={"api-token", "new"}),
            State.DEGRADED,
            "not given to the service yet: new",
            "sudo make",
        ),
        (given("api-token", files={"api-token", "a b"}), State.DEGRADED, "called so: a b", f"mv '{CREDENTIALS}/a b'"),
    ],
)
def test_a_credential_that_is_not_as_it_should_be_is_named(
    found: Credentials, state: State, said: str, repair: str
) -> None:
    judged = comparison.of_credentials(found, TOKEN)
    assert (judged.state, said in judged.detail, repair in judged.repair) == (state, True, True), judged


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
