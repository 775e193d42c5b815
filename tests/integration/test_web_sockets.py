"""Where the agent listens: its own sockets, those handed down, and those that somebody else has."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from homelab_agent.core.health import State
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.web import doctor, sockets
from homelab_agent.web.settings import WebSettings
from homelab_agent.web.sockets import CannotListen, Listeners, PortTaken

_HOLD = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder() -> Iterator[tuple[int, int]]:
    """Another process that listens: its id and its port."""
    child = subprocess.Popen([sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    yield child.pid, int(child.stdout.readline())
    child.communicate("")


def listening(directory: Path, *, inherited: tuple[socket.socket, ...] = ()) -> Listeners:
    return sockets.listen("127.0.0.1:0", directory, inherited)


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_a_port_that_is_taken_is_said_with_the_process_that_has_it(tmp_path: Path, holder: tuple[int, int]) -> None:
    pid, port = holder
    with pytest.raises(PortTaken) as caught:
        sockets.listen(f"127.0.0.1:{port}", tmp_path)
    assert f"process {pid} (python" in str(caught.value)
    assert "[web] listen" in caught.value.repair
    assert not (tmp_path / "agent.sock").exists()


async def test_the_doctor_says_it_before_the_start(tmp_path: Path, holder: tuple[int, int]) -> None:
    pid, port = holder
    taken, free = (
        doctor.checks(WebSettings(listen=address), tmp_path, Secrets(Redactor()))[0].probe
        for address in (f"127.0.0.1:{port}", "127.0.0.1:0")
    )
    assert taken is not None
    assert free is not None
    assert str(pid) in (await taken()).detail
    assert (await free()).state is State.OK


@pytest.mark.parametrize(
    ("address", "is_reached"),
    [("127.0.0.1:0", True), ("0.0.0.0:0", True), ("127.0.0.2:0", False), ("[::1]:0", False), ("[::]:0", False)],
)
def test_the_port_on_loopback_is_known_where_there_is_one(tmp_path: Path, address: str, *, is_reached: bool) -> None:
    listeners = sockets.listen(address, tmp_path)
    try:
        ((_, port),) = listeners.addresses()
        assert listeners.loopback_port() == (port if is_reached else None)
    finally:
        listeners.close()


def test_a_port_that_was_handed_down_for_both_families_is_on_loopback_too(tmp_path: Path) -> None:
    both = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    listeners = listening(tmp_path, inherited=(both,))
    try:
        port = listeners.loopback_port()
        assert port == both.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
    finally:
        listeners.close()


def test_an_address_of_another_host_cannot_be_listened_on(tmp_path: Path) -> None:
    with pytest.raises(CannotListen) as caught:
        sockets.listen("192.0.2.1:8085", tmp_path)
    assert "192.0.2.1:8085" in str(caught.value)


def test_the_unix_socket_is_for_its_owner_and_the_group_alone(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        listeners = listening(tmp_path)
    finally:
        os.umask(previous)
    mode = (tmp_path / "agent.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) in {0o600, 0o660}
    listeners.close()
    assert not (tmp_path / "agent.sock").exists()


def test_what_a_killed_agent_left_is_replaced(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "agent.sock"))
    left.close()
    assert not answers(tmp_path / "agent.sock")
    listeners = listening(tmp_path)
    assert answers(tmp_path / "agent.sock")
    listeners.close()


def test_a_path_too_long_for_a_socket_is_said_with_the_key(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    with pytest.raises(CannotListen) as caught:
        listening(deep)
    assert "[agent] state" in caught.value.repair


def test_a_unix_socket_handed_down_is_kept_and_its_file_left_alone(tmp_path: Path) -> None:
    handed = socket.socket(socket.AF_UNIX)
    handed.bind(str(tmp_path / "run.sock"))
    handed.listen()
    listeners = listening(tmp_path, inherited=(handed,))
    assert not (tmp_path / "agent.sock").exists()
    assert len(listeners.addresses()) == 1
    listeners.close()
    assert (tmp_path / "run.sock").exists()


def test_a_tcp_socket_handed_down_takes_the_place_of_listen(tmp_path: Path) -> None:
    handed = socket.create_server(("127.0.0.1", 0))
    port = handed.getsockname()[1]
    listeners = sockets.listen("127.0.0.1:1", tmp_path, [handed])
    assert listeners.addresses() == [("127.0.0.1", port)]
    assert answers(tmp_path / "agent.sock")
    listeners.close()


@pytest.mark.parametrize(
    ("listen", "good"),
    [
        ("127.0.0.1:8085", True),
        ("[::1]:8085", True),
        ("0.0.0.0:80", True),
        ("localhost:8085", False),
        ("127.0.0.1", False),
        ("127.0.0.1:", False),
        ("127.0.0.1:65536", False),
        ("::1:8085", False),
        ("127.0.0.1:\u0663", False),
    ],
)
def test_listen_is_an_address_and_a_port(listen: str, *, good: bool) -> None:
    if good:
        assert WebSettings(listen=listen).listen == listen
    else:
        with pytest.raises(ValueError, match="listen"):
            WebSettings(listen=listen)


@pytest.mark.parametrize("name", ["", "https://x", "x:8085", "a b", "ü.example", "x/"])
def test_hosts_are_bare_names(name: str) -> None:
    with pytest.raises(ValueError, match="hosts"):
        WebSettings(hosts=[name])
    assert WebSettings(hosts=["Server.Example."]).hosts == ["server.example"]
