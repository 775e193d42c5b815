from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from homelab_agent.core import systemd

SAY_WHAT_WAS_INHERITED = """
import json, os
from homelab_agent.core import systemd
found = systemd.inherited_sockets()
print(json.dumps({
    "sockets": {name: each.getsockname() for name, each in found.items()},
    "inheritable": [each.get_inheritable() for each in found.values()],
    "left": [name for name in os.environ if name.startswith("LISTEN_")],
    "again": len(systemd.inherited_sockets()),
}))
"""


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@homelab-agent-test-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0"))
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield listening


def inherit(*sockets: socket.socket, names: str, pid: str = "$$") -> dict[str, object]:
    """Hand `sockets` to a child as the manager does: from descriptor 3 on, with its own pid in LISTEN_PID."""
    moves = " ".join(f"{3 + number}<&{each.fileno()}" for number, each in enumerate(sockets))
    variables = f"LISTEN_PID={pid} LISTEN_FDS={len(sockets)} LISTEN_FDNAMES={names}"
    command = f'exec env {variables} "$0" -c "$1" {moves}'
    child = subprocess.run(
        ["bash", "-c", command, sys.executable, SAY_WHAT_WAS_INHERITED],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
        pass_fds=[each.fileno() for each in sockets],
    )
    said: dict[str, object] = json.loads(child.stdout)
    return said


def high(listening: socket.socket) -> socket.socket:
    """Return the same socket on a descriptor that is out of the way of 3, 4, 5."""
    with listening:
        return socket.socket(fileno=fcntl.fcntl(listening, fcntl.F_DUPFD_CLOEXEC, 100))


def test_the_manager_hears_that_the_agent_is_ready(manager: socket.socket) -> None:
    assert systemd.notify(READY=1, STATUS="gate open\nsync ok")
    assert manager.recv(4096) == b"READY=1\nSTATUS=gate open sync ok"


def test_a_reload_carries_the_time_that_the_protocol_asks_for(manager: socket.socket) -> None:
    assert systemd.notify(RELOADING=1)
    first, second = manager.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    assert second.removeprefix("MONOTONIC_USEC=").isdecimal()


async def test_a_manager_that_does_not_listen_delays_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        told = [systemd.notify(WATCHDOG=1) for _ in range(2000)]
    assert told[0]
    assert not told[-1]


async def test_what_must_arrive_is_repeated_until_the_manager_takes_it_and_the_loop_turns_meanwhile(
    manager: socket.socket,
) -> None:
    while systemd.notify(WATCHDOG=1):
        pass
    telling = asyncio.create_task(systemd.tell_surely(READY=1))
    await asyncio.sleep(0.2)
    assert not telling.done(), "its buffer is full"
    heard = [manager.recv(4096)]
    async with asyncio.timeout(5):
        assert await telling
    manager.settimeout(0)
    with suppress(BlockingIOError):
        while True:
            heard.append(manager.recv(4096))
    assert heard.count(b"READY=1") == 1


async def test_a_manager_that_never_takes_it_is_given_up(manager: socket.socket) -> None:
    while systemd.notify(WATCHDOG=1):
        pass
    async with asyncio.timeout(5):
        assert not await systemd.tell_surely(within=0.3, READY=1)
    assert manager.recv(4096) == b"WATCHDOG=1"


@pytest.mark.parametrize("address", ["", "/nonexistent/socket", "vsock:2:1234", "relative"])
async def test_without_a_manager_there_is_nobody_to_tell(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not systemd.notify(READY=1)
    async with asyncio.timeout(1):
        assert not await systemd.tell_surely(READY=1)


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_ours_only_when_it_names_us(
    variables: dict[str, str], seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert systemd.watchdog_interval() == seconds


def test_a_child_finds_its_sockets_by_name_and_passes_them_to_nobody(tmp_path: Path) -> None:
    with ExitStack() as stack:
        sockets = []
        for name in ("a", "b", "c"):
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listening.bind(str(tmp_path / name))
            sockets.append(stack.enter_context(high(listening)))
        found = inherit(*sockets, names="web:web:")
    assert found == {
        "sockets": {"web": str(tmp_path / "a"), "web.2": str(tmp_path / "b"), "unknown": str(tmp_path / "c")},
        "inheritable": [False, False, False],
        "left": [],
        "again": 0,
    }


def test_sockets_meant_for_another_process_are_left_alone(tmp_path: Path) -> None:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(tmp_path / "a"))
    with high(listening) as other:
        assert inherit(other, names="web", pid="1")["sockets"] == {}


def test_a_descriptor_that_is_no_socket_is_not_taken_for_one(tmp_path: Path) -> None:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(tmp_path / "a"))
    with high(listening) as other:
        variables = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=file:web"
        command = f'exec env {variables} "$0" -c "$1" 3</dev/null 4<&{other.fileno()}'
        child = subprocess.run(
            ["bash", "-c", command, sys.executable, SAY_WHAT_WAS_INHERITED],
            check=True,
            capture_output=True,
            timeout=30,
            pass_fds=[other.fileno()],
        )
    assert json.loads(child.stdout)["sockets"] == {"web": str(tmp_path / "a")}


def test_credentials_are_where_the_manager_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert systemd.credentials_directory() is None
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/homelab-agent.service")
    assert systemd.credentials_directory() == Path("/run/credentials/homelab-agent.service")


def test_a_shell_inside_a_service_is_not_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "SYSTEMD_EXEC_PID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INVOCATION_ID", uuid.uuid4().hex)
    assert not systemd.under_systemd()
    monkeypatch.setenv("SYSTEMD_EXEC_PID", str(os.getppid()))
    assert not systemd.under_systemd()
    monkeypatch.setenv("SYSTEMD_EXEC_PID", str(os.getpid()))
    assert systemd.under_systemd()


def test_output_that_was_sent_elsewhere_does_not_lead_to_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "a").open("w") as journal, (tmp_path / "b").open("w") as other:
        status = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert systemd.leads_to_journal(journal.fileno())
        assert not systemd.leads_to_journal(other.fileno())
    assert not systemd.leads_to_journal(10_000)
