"""The tailnet is the real Tailscale, its public side refuses as production does, and it is had wherever one likes."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.agent import Agent
from tests.neighbours import machine as machines
from tests.neighbours import tailnet as neighbour
from tests.neighbours import tailnet_world, tailscale
from tests.neighbours.neighbour import Missing
from tests.neighbours.ports import listens
from tests.neighbours.tailnet import Tailnet
from tests.neighbours.tailscale import VERSION
from tests.neighbours.tailscaled import PORT, Entry
from tests.neighbours.visitors import Connection
from tests.processes import children, family, is_alive
from tests.published import WEB, Published, public_is_refused, seen, why_refused
from tests.user import ordinary
from tests.waiting import until


def test_it_is_tailscale_of_the_version_that_is_named(tailnet: Tailnet) -> None:
    assert neighbour.NEIGHBOUR.version() == tailnet.homelab.status["Version"] == VERSION
    assert VERSION in tailnet.homelab("version")
    assert tailnet.homelab.status["Self"]["DNSName"] == f"{tailnet.name}."


def test_nothing_leads_out_of_its_network(tailnet: Tailnet) -> None:
    with pytest.raises(OSError, match="unreachable"):
        tailnet.network.connect("198.51.100.1", 443)


@pytest.mark.parametrize("source", ["203.0.113.7", "203.0.113.200", "2001:db8::7"])
def test_the_public_is_marked_as_such_with_its_address_and_has_no_name(
    tailnet: Tailnet, published: Published, source: str
) -> None:
    with tailnet.homelab.session(WEB), tailnet.public.connect(source=source) as connection:
        headers = seen(connection)
    assert headers["tailscale-funnel-request"] == "?1"
    assert headers["x-forwarded-for"] == source
    assert headers["x-forwarded-proto"] == "https"
    assert headers["host"] == headers["x-forwarded-host"] == f"{tailnet.name}:{PORT}"
    assert not [name for name in headers if name.startswith("tailscale-user-")]


def test_a_user_of_the_tailnet_has_a_name_a_tagged_node_none_and_neither_is_the_public(
    tailnet: Tailnet, published: Published
) -> None:
    with tailnet.homelab.session(WEB):
        user, server = seen(tailnet.laptop), seen(tailnet.server)
    hosts = tailnet.control.hosts()
    assert user["tailscale-user-login"] == "user-1@fake-control.example.net"
    assert user["x-forwarded-for"] == hosts["laptop"].address
    assert hosts["server"].tags == ("tag:server",)
    assert server["x-forwarded-for"] == hosts["server"].address
    assert not [name for name in server if name.startswith("tailscale-")]
    assert "tailscale-funnel-request" not in user


def test_on_the_host_itself_nothing_is_said_of_who_asks(tailnet: Tailnet, published: Published) -> None:
    answer = tailnet.loopback.ask("PUT", "/a?b", port=WEB, body=b"c")
    assert json.loads(answer.body) == {
        "path": "/a?b",
        "headers": [["Host", f"127.0.0.1:{WEB}"], ["Accept-Encoding", "identity"], ["Content-Length", "1"]],
    }


def test_what_the_public_forges_is_replaced_but_for_underscores_and_the_host(
    tailnet: Tailnet, published: Published
) -> None:
    forged = {"Tailscale__User__Login": "me", "Tailscale__Funnel__Request": "?0", "X__Forwarded__For": "100.64.0.1"}
    passed = {"Tailscale_User_Login": "me", "X__Real__IP": "100.64.0.1", "Host": "127.0.0.1"}
    with tailnet.homelab.session(WEB):
        headers = seen(tailnet.public, **forged, **passed)
    assert headers["x-forwarded-for"] == "203.0.113.7"
    assert headers["tailscale-funnel-request"] == "?1"
    assert "tailscale-user-login" not in headers
    assert headers["tailscale_user_login"] == "me"
    assert headers["x-real-ip"] == "100.64.0.1"
    assert headers["host"] == headers["x-forwarded-host"] == "127.0.0.1"


def test_the_entry_of_a_session_ends_with_its_command_however_that_ends(tailnet: Tailnet, published: Published) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        with tailnet.homelab.session(WEB) as child:
            assert seen(tailnet.public)
            assert tailnet.control.hosts()["homelab"].ingress_enabled
            child.stop(number)
            public_is_refused(tailnet)
        assert tailnet.homelab.serve_config == {}
        until(lambda: not tailnet.control.hosts()["homelab"].ingress_enabled, "it takes the public no more")
        assert why_refused(tailnet) == "relay: the node publishes nothing"


def test_a_connection_that_is_kept_gets_404_and_is_served_again_by_the_next_session(
    tailnet: Tailnet, published: Published
) -> None:
    with tailnet.homelab.session(WEB) as child:
        kept = tailnet.public.connect()
        assert seen(kept)
        child.kill()
        public_is_refused(tailnet)
    with kept:
        assert kept.ask("GET", "/").status == 404
        with tailnet.homelab.session(WEB, public=False):
            assert seen(kept)["tailscale-funnel-request"] == "?1"
            assert not tailnet.public.reaches()


def test_what_is_under_way_when_the_entry_goes_is_not_cut(tailnet: Tailnet, published: Published) -> None:
    with tailnet.homelab.session(WEB) as child:
        streaming, socketed = tailnet.public.connect(), tailnet.public.connect()
        stream = streaming.begin("GET", "/stream")
        raw = socketed.upgrade("/echo")
        child.kill()
        public_is_refused(tailnet)
    with streaming, socketed:
        for _ in range(3):
            published.asked.release()
            assert stream.readline() == b"more\n"
            raw.send(b"hello")
            assert raw.read(5) == b"hello"
        published.finish()
        assert stream.read() == b""


def test_entries_of_others_are_there_and_a_port_that_is_taken_is_refused(
    tailnet: Tailnet, published: Published
) -> None:
    homelab = tailnet.homelab
    homelab.publish(9000, port=10000)
    with homelab.session(9001, public=False):
        session = next(entry.session for entry in homelab.entries if entry.session)
        assert homelab.entries == {
            Entry(10000, "http://127.0.0.1:9000", is_public=True, session=""),
            Entry(PORT, "http://127.0.0.1:9001", is_public=False, session=session),
        }
        taken = homelab.run("funnel", f"--https={PORT}", str(WEB))
        assert taken.returncode == 1
        assert "listener already exists for port 8443" in taken.stderr
        with pytest.raises(AssertionError, match="foreground listener already exists for port 8443"):
            homelab.publish(WEB)
    until(lambda: {entry.port for entry in homelab.entries} == {10000}, "the session's entry is gone")


def test_the_resolver_knows_where_the_public_finds_the_host(tailnet: Tailnet) -> None:
    def ask(name: str) -> bytes:
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        question = struct.pack(">HHHHHH", 0, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)
        packed = base64.urlsafe_b64encode(question).rstrip(b"=").decode()
        host = tailnet.resolver.split("/")[2]
        tls = ssl.create_default_context(cafile=tailnet.ca)
        connected = tls.wrap_socket(tailnet.network.connect(host, 443), server_hostname=host)
        with closing(Connection(connected, host)) as connection:
            answer = connection.ask("GET", f"/dns-query?dns={packed}", headers={"Accept": "application/dns-message"})
        assert answer.headers["Content-Type"] == "application/dns-message"
        return answer.body

    assert ask(tailnet.name).endswith(socket.inet_aton(tailnet.network.public[0]))
    assert ask("nobody.tail-test.ts.net")[3] & 15 == 3  # NXDOMAIN


def test_only_the_operator_may_change_what_is_served(tailnet: Tailnet, published: Published) -> None:
    words = ordinary(tailnet.homelab.command("serve", "--bg", f"--https={PORT}", str(WEB)))
    refused = subprocess.run(words, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "Access denied" in refused.stderr
    tailnet.homelab.operate("nobody")
    subprocess.run(words, capture_output=True, check=True)
    assert {entry.port for entry in tailnet.homelab.entries} == {PORT}


def test_an_agent_in_its_network_is_reached_by_the_tests_and_by_visitors(tailnet: Tailnet, agent: Agent) -> None:
    agent.enter(tailnet.network)
    agent.start()
    assert not listens(agent.port)
    assert tailnet.loopback.ask("GET", "/api/health/live", port=agent.port).status == 200
    with tailnet.homelab.session(agent.port):
        asked = tailnet.public.ask("GET", "/api/health/live")
        assert asked.headers["Content-Type"] == "application/problem+json"
        assert asked.status == 503
    agent.kill()
    agent.start()
    assert agent.json("/api/health")["findings"]


ALONE = """
from tests.neighbours import tailnet
from tests.neighbours.neighbour import Missing
try:
    with tailnet.running() as one, one.network.make_socket() as listening, one.homelab.session(8085):
        listening.bind(("127.0.0.1", 8085))
        listening.listen()
        print(one.public.reaches(), one.laptop.reaches(), one.server.reaches())
except Missing as why:
    print(why)
"""


def test_an_ordinary_user_has_one_too_where_there_is_no_network(open_directory: Path) -> None:
    cache = open_directory / "cache"
    for program in (tailscale.built("tailscale"), tailscale.built("tailscaled"), tailnet_world.program()):
        shutil.copytree(program.parent, cache / program.parent.name)
    cache.chmod(0o777)
    done = subprocess.run(
        ["unshare", "--net", *ordinary([sys.executable, "-c", ALONE])],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "HOMELAB_AGENT_TEST_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if "cannot be made here" in done.stdout:
        raise Missing(done.stdout)
    assert done.stdout == "True True True\n"


def test_a_machine_may_be_the_host(open_directory: Path) -> None:
    with (
        machines.running(shared=[open_directory, tailscale.built("tailscale").parent]) as machine,
        neighbour.running(of=machine.pid, directory=open_directory) as tailnet,
    ):
        listening = tailnet.network.make_socket()
        with listening, tailnet.homelab.session(WEB):
            listening.bind(("127.0.0.1", WEB))
            listening.listen()
            assert f":{WEB}" in machine("ss", "-ltn")
            assert "laptop" in machine(*tailnet.homelab.command("status"))
            assert tailnet.public.reaches()


def test_nothing_is_left_when_it_ends_amid_its_work() -> None:
    mine = set(children(os.getpid()))
    with neighbour.running() as tailnet:
        tailnet.homelab.publish(WEB)
        servers = (tailnet.network, tailnet.world, tailnet.homelab)
        everything = [pid for server in servers for pid in family(server.pid)]
        tailnet.homelab.freeze()
    assert not any(map(is_alive, everything))
    assert not tailnet.directory.exists()
    assert not set(children(os.getpid())) - mine


UNTIDY = """
import shutil
import signal
from tests.neighbours import tailnet
with tailnet.running() as one:
    print(one.directory, one.network.pid, one.world.pid, one.homelab.pid, flush=True)
    signal.pause()
"""


def test_no_process_is_left_when_the_tests_are_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", UNTIDY], stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        directory, *pids = tests.stdout.readline().split()
        assert all(is_alive(int(pid)) for pid in pids)
        tests.kill()
    until(lambda: not any(is_alive(int(pid)) for pid in pids), "no process is left")
    until(lambda: not Path(directory).exists(), "nothing is left")
