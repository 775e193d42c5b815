"""The tailnet is the real Tailscale with a public side that refuses as production's does, and breaks as it says."""

from __future__ import annotations

import base64
import functools
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.neighbours import machine as machines
from tests.neighbours import tailnet as neighbour
from tests.neighbours import tailnet_world, tailscaled
from tests.neighbours.neighbour import Missing
from tests.neighbours.network import Network
from tests.neighbours.tailnet import Tailnet
from tests.neighbours.tailnet_world import FUNNEL, HTTPS, PORTS
from tests.neighbours.tailscaled import PORT, VERSION, Entry
from tests.neighbours.visitors import Connection, Refused, Visitor
from tests.processes import children, family, is_alive
from tests.user import ordinary
from tests.waiting import until

WEB = 8085
GONE = (OSError, http.client.HTTPException)


class Answering(BaseHTTPRequestHandler):
    """Tells who asks what it was asked; /stream goes on until `more` says no, /echo returns what it hears."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Web

    def do_GET(self) -> None:
        if self.path == "/stream":
            self._stream()
        elif self.path == "/echo":
            self._echo()
        else:
            self._answer(json.dumps({"path": self.path, "headers": self.headers.items()}).encode())

    def do_PUT(self) -> None:
        self.do_GET()

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        while self.server.may_go_on():
            self.wfile.write(b"more\n")

    def _echo(self) -> None:
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "websocket")
        self.end_headers()
        while heard := self.connection.recv(4096):
            self.connection.sendall(heard)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Web(ThreadingHTTPServer):
    """What the host publishes: a web server on a port of its loopback interface, in a network of the tests."""

    def __init__(self, network: Network, port: int = WEB) -> None:
        super().__init__(("127.0.0.1", port), Answering, bind_and_activate=False)
        self.socket.close()
        self.socket = network.make_socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", port))
        self.server_activate()
        self.asked = threading.Semaphore(0)
        self._is_open = True

    def may_go_on(self) -> bool:
        """Wait until a test wants more of a stream; False when it has enough."""
        self.asked.acquire()
        return self._is_open

    def finish(self) -> None:
        """Let streams end."""
        self._is_open = False
        self.asked.release(100)

    def handle_error(self, *_: object) -> None:
        """Say nothing: broken connections are what the tests are about."""


@pytest.fixture
def web(tailnet: Tailnet) -> Iterator[Web]:
    """A web server on the host's port 8085."""
    server = Web(tailnet.network)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    serving.start()
    yield server
    server.finish()
    server.shutdown()
    serving.join()
    server.server_close()


def seen(visitor: Visitor | Connection, path: str = "/", **headers: str) -> dict[str, str]:
    """Ask, and return the headers that arrived, with their names in lower case."""
    answer = visitor.ask("GET", path, headers={name.replace("__", "-"): value for name, value in headers.items()})
    assert answer.status == 200, answer
    return {name.lower(): value for name, value in json.loads(answer.body)["headers"]}


def why_refused(tailnet: Tailnet, port: int = PORT) -> str:
    """Return who refuses the public, and why."""
    with pytest.raises(Refused) as refused:
        tailnet.public.connect(port)
    return str(refused.value)


def is_gone(tailnet: Tailnet, capability: str) -> bool:
    """Whether the host knows that it lacks this."""
    return capability not in tailnet.homelab.capabilities


def public_is_refused(tailnet: Tailnet) -> None:
    """Wait until it is."""
    until(lambda: not tailnet.public.reaches(), "the public is refused", seconds=5)


def test_it_is_tailscale_of_the_version_that_is_named(tailnet: Tailnet) -> None:
    assert neighbour.NEIGHBOUR.version() == tailnet.homelab.status["Version"] == VERSION
    assert VERSION in tailnet.homelab("version")
    assert tailnet.homelab.status["Self"]["DNSName"] == f"{tailnet.name}."


def test_nothing_leads_out_of_its_network(tailnet: Tailnet) -> None:
    with pytest.raises(OSError, match="unreachable"):
        tailnet.network.connect("198.51.100.1", 443)


@pytest.mark.parametrize("source", ["203.0.113.7", "203.0.113.200", "2001:db8::7"])
def test_the_public_is_marked_as_such_with_its_address_and_has_no_name(tailnet: Tailnet, web: Web, source: str) -> None:
    with tailnet.homelab.session(WEB), tailnet.public.connect(source=source) as connection:
        headers = seen(connection)
    assert headers["tailscale-funnel-request"] == "?1"
    assert headers["x-forwarded-for"] == source
    assert headers["x-forwarded-proto"] == "https"
    assert headers["host"] == headers["x-forwarded-host"] == f"{tailnet.name}:{PORT}"
    assert not [name for name in headers if name.startswith("tailscale-user-")]


def test_a_user_of_the_tailnet_has_a_name_a_tagged_node_none_and_neither_is_the_public(
    tailnet: Tailnet, web: Web
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


def test_on_the_host_itself_nothing_is_said_of_who_asks(tailnet: Tailnet, web: Web) -> None:
    answer = tailnet.loopback.ask("PUT", "/a?b", port=WEB, body=b"c")
    assert json.loads(answer.body) == {
        "path": "/a?b",
        "headers": [["Host", f"127.0.0.1:{WEB}"], ["Accept-Encoding", "identity"], ["Content-Length", "1"]],
    }


def test_what_the_public_forges_is_replaced_but_for_underscores_and_the_host(tailnet: Tailnet, web: Web) -> None:
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


def test_the_entry_of_a_session_ends_with_its_command_however_that_ends(tailnet: Tailnet, web: Web) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        with tailnet.homelab.session(WEB) as child:
            assert seen(tailnet.public)
            assert tailnet.control.hosts()["homelab"].ingress_enabled
            child.stop(number)
            public_is_refused(tailnet)
        assert tailnet.homelab.serve_config == {}
        until(lambda: not tailnet.control.hosts()["homelab"].ingress_enabled, "it takes the public no more")
        assert why_refused(tailnet) == "relay: the node publishes nothing"


def test_a_connection_that_is_kept_gets_404_and_is_served_again_by_the_next_session(tailnet: Tailnet, web: Web) -> None:
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


def test_what_is_under_way_when_the_entry_goes_is_not_cut(tailnet: Tailnet, web: Web) -> None:
    with tailnet.homelab.session(WEB) as child:
        streaming, socketed = tailnet.public.connect(), tailnet.public.connect()
        stream = streaming.begin("GET", "/stream")
        raw = socketed.upgrade("/echo")
        child.kill()
        public_is_refused(tailnet)
    with streaming, socketed:
        for _ in range(3):
            web.asked.release()
            assert stream.readline() == b"more\n"
            raw.send(b"hello")
            assert raw.read(5) == b"hello"
        web.finish()
        assert stream.read() == b""


def test_when_funnel_is_withdrawn_the_relay_refuses_and_the_host_notices_nothing(tailnet: Tailnet, web: Web) -> None:
    with tailnet.homelab.session(WEB) as child:
        tailnet.control.withdraw(FUNNEL)
        until(lambda: is_gone(tailnet, FUNNEL), "the host is told")
        assert '"funnel" node attribute not set' in why_refused(tailnet)
        assert child.runs
        assert {entry.port for entry in tailnet.homelab.entries} == {PORT}
        assert tailnet.homelab.status["Health"] == []
        assert seen(tailnet.laptop)
        tailnet.control.restore()
        assert seen(tailnet.public)


def test_a_port_that_is_not_allowed_is_published_all_the_same_and_refused_by_the_relay(
    tailnet: Tailnet, web: Web
) -> None:
    tailnet.control.allow_ports(443)
    until(lambda: is_gone(tailnet, PORTS), "the host is told")
    with tailnet.homelab.session(WEB):
        assert why_refused(tailnet) == "relay: port 8443 is not allowed for funnel; allowed ports are: 443"


def test_what_a_host_may_not_is_said_by_the_command(tailnet: Tailnet) -> None:
    wanted = ("funnel", f"--https={PORT}", str(WEB))
    for capability, complaint in {HTTPS: "HTTPS must be enabled", PORTS: "is not allowed for funnel"}.items():
        tailnet.control.withdraw(capability)
        until(functools.partial(is_gone, tailnet, capability), "the host is told")
        done = tailnet.homelab.run(*wanted)
        assert done.returncode == 1
        assert complaint in done.stderr
    tailnet.control.withdraw(FUNNEL)
    until(lambda: is_gone(tailnet, FUNNEL), "the host is told")
    done = tailnet.homelab.run(*wanted)
    assert done.returncode == 1
    assert "attribute not set" in done.stderr
    tailnet.control.answer_feature({"text": "Enable it", "url": "https://example.org/", "shouldWait": False})
    done = tailnet.homelab.run(*wanted)
    assert done.returncode == 0
    assert "https://example.org/" in done.stdout + done.stderr
    assert tailnet.homelab.serve_config == {}


def test_entries_of_others_are_there_and_a_port_that_is_taken_is_refused(tailnet: Tailnet, web: Web) -> None:
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
    assert {entry.port for entry in homelab.entries} == {10000}


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_when_the_daemon_ends_sessions_go_for_good_and_the_background_comes_back(
    tailnet: Tailnet, web: Web, end: str
) -> None:
    homelab = tailnet.homelab
    homelab.publish(WEB, port=10000)
    with homelab.session(WEB) as child:
        getattr(homelab, end)()
        until(lambda: not child.runs, "the command has ended")
        assert child.code == (1 if end == "kill" else 0)
        with pytest.raises(OSError, match=r"refused|No such file"):
            assert homelab.status
        homelab.start()
        homelab.until_running()
        assert {entry.port for entry in homelab.entries if not entry.session} == {10000}
        until(lambda: tailnet.public.reaches(10000), "the background entry is published")
        assert not tailnet.public.reaches()


def test_frozen_the_daemon_answers_nobody_and_thawed_it_goes_on(tailnet: Tailnet, web: Web) -> None:
    with tailnet.homelab.session(WEB):
        tailnet.homelab.freeze()
        with pytest.raises(TimeoutError):
            tailnet.homelab.ask("GET", "status", seconds=0.5)
        with tailnet.public.reach(PORT) as waiting:
            waiting.settimeout(0.5)
            tls = ssl.create_default_context(cafile=tailnet.ca)
            with pytest.raises(TimeoutError):
                tls.wrap_socket(waiting, server_hostname=tailnet.name)
        tailnet.homelab.thaw()
        assert seen(tailnet.public)


def test_disconnected_it_still_lists_what_it_serves_and_connected_it_serves_it(tailnet: Tailnet, web: Web) -> None:
    with tailnet.homelab.session(WEB) as child:
        tailnet.homelab.down()
        assert tailnet.homelab.backend == "Stopped"
        assert {entry.port for entry in tailnet.homelab.entries} == {PORT}
        assert child.runs
        tailnet.homelab.up()
        until(tailnet.public.reaches, "the public is let in")


def test_logged_out_it_serves_nothing_and_logged_in_it_is_another_node(tailnet: Tailnet, web: Web) -> None:
    before = tailnet.control.hosts()["homelab"].address
    with tailnet.homelab.session(WEB) as child:
        tailnet.homelab.log_out()
        assert tailnet.homelab.backend == "NeedsLogin"
        assert tailnet.homelab.serve_config == {}
        assert child.runs
        tailnet.homelab.log_in()
        assert tailnet.homelab.serve_config == {}
    assert tailnet.control.hosts()["homelab"].address != before
    assert tailnet.homelab.status["Self"]["DNSName"] == f"{tailnet.name}."
    with tailnet.homelab.session(WEB):
        assert seen(tailnet.laptop)
        until(tailnet.public.reaches, "the public is let in")


def test_with_its_shields_up_it_publishes_nothing_and_publishing_it_raises_no_shields(
    tailnet: Tailnet, web: Web
) -> None:
    with tailnet.homelab.session(WEB), pytest.raises(AssertionError, match=r"(?i)shields.up"):
        tailnet.homelab.shield()
    tailnet.homelab.shield()
    done = tailnet.homelab.run("funnel", f"--https={PORT}", str(WEB))
    assert done.returncode == 1
    assert "shields-up is enabled" in done.stderr


def test_a_key_ends_when_it_should_and_who_logs_in_has_a_fresh_one(tailnet: Tailnet, web: Web) -> None:
    homelab = tailnet.homelab
    tailnet.control.expire(timedelta(days=10))
    until(lambda: homelab.status["Self"].get("KeyExpiry"), "the host is told")
    ends = datetime.fromisoformat(homelab.status["Self"]["KeyExpiry"]) - datetime.now(UTC)
    assert timedelta(days=9) < ends < timedelta(days=10, seconds=1)  # rounded
    with homelab.session(WEB):
        tailnet.control.expire()
        until(lambda: homelab.backend == "NeedsLogin", "the host is told")
        assert why_refused(tailnet) == "relay: the node's key has expired"
    homelab.log_in()
    with homelab.session(WEB):
        until(tailnet.public.reaches, "the public is let in")
        assert seen(tailnet.laptop)


def test_a_key_whose_end_is_taken_back_goes_on(tailnet: Tailnet) -> None:
    tailnet.control.expire()
    until(lambda: tailnet.homelab.backend == "NeedsLogin", "the host is told")
    tailnet.control.expire(None)
    tailnet.homelab.until_running()


def test_cut_off_from_control_the_host_says_so_and_goes_on_publishing(tailnet: Tailnet, web: Web) -> None:
    with tailnet.homelab.session(WEB):
        tailnet.control.cut()
        until(lambda: not tailnet.homelab.status["Self"]["Online"], "the host has noticed")
        assert seen(tailnet.public)
        tailnet.control.mend()
        tailnet.homelab.restart()  # it would wait, up to half a minute, before it asks again
        until(lambda: tailnet.homelab.status["Self"].get("Online"), "control is back")


def test_asked_to_wait_for_a_feature_the_command_goes_on_when_it_is_granted(tailnet: Tailnet, web: Web) -> None:
    tailnet.control.withdraw(FUNNEL)
    until(lambda: is_gone(tailnet, FUNNEL), "the host is told")
    tailnet.control.answer_feature({"text": "Wait", "url": "https://example.org/", "shouldWait": True})
    with subprocess.Popen(
        tailnet.homelab.command("funnel", f"--https={PORT}", str(WEB)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as child:
        try:
            assert child.stdout is not None
            assert b"Wait" in b"".join(child.stdout.readline() for _ in range(2))
            assert tailnet.homelab.serve_config == {}
            until(lambda: tailnet.control.mark() and tailnet.public.reaches(), "it hears of it and publishes")
        finally:
            child.kill()


def test_without_a_certificate_or_with_a_wrong_one_no_tls_is_spoken(tailnet: Tailnet, web: Web) -> None:
    with tailnet.homelab.session(WEB):
        for spoil in (
            tailnet.remove_certificate,
            lambda: tailnet.place_certificate("other.tail-test.ts.net"),
            lambda: tailnet.place_certificate(lasts=timedelta(hours=-1)),
        ):
            spoil()
            with pytest.raises(ssl.SSLError, match=r"(?i)internal.error"):
                tailnet.public.connect()
            assert tailnet.homelab.status["Health"] == []
        tailnet.place_certificate(trusted=False)
        with pytest.raises(ssl.SSLCertVerificationError, match=r"unable to get local issuer|self-signed"):
            tailnet.public.connect()
        tailnet.place_certificate()
        assert seen(tailnet.public)


def test_a_relay_that_fails_is_noticed_only_by_the_public(tailnet: Tailnet, web: Web) -> None:
    with tailnet.homelab.session(WEB):
        tailnet.relay.close()
        assert why_refused(tailnet) == "the connection was closed"
        tailnet.relay.hang()
        with tailnet.public.reach(PORT) as waiting:
            waiting.settimeout(0.5)
            with pytest.raises(TimeoutError):
                ssl.create_default_context().wrap_socket(waiting, server_hostname=tailnet.name)
        assert tailnet.homelab.status["Health"] == []
        assert seen(tailnet.laptop)
        tailnet.relay.carry()
        assert seen(tailnet.public)


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


def test_only_the_operator_may_change_what_is_served(tailnet: Tailnet, web: Web) -> None:
    words = ordinary(tailnet.homelab.command("serve", "--bg", f"--https={PORT}", str(WEB)))
    refused = subprocess.run(words, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "Access denied" in refused.stderr
    tailnet.homelab.operate("nobody")
    subprocess.run(words, capture_output=True, check=True)
    assert {entry.port for entry in tailnet.homelab.entries} == {PORT}


def test_whatever_a_test_did_the_next_finds_all_as_it_was(tailnet: Tailnet) -> None:
    homelab = tailnet.homelab
    homelab.operate("nobody")
    homelab.publish(WEB)
    tailnet.control.withdraw(FUNNEL)
    tailnet.control.expire()
    tailnet.remove_certificate()
    tailnet.relay.hang()
    tailnet.control.cut()
    homelab.freeze()
    tailnet.heal()
    assert homelab.backend == "Running"
    assert homelab.serve_config == {}
    assert homelab.ask("GET", "prefs").get("OperatorUser", "") == ""
    homelab.kill()
    tailnet.heal()
    homelab.log_out()
    tailnet.heal()
    with homelab.session(WEB):
        until(tailnet.public.reaches, "the public is let in")


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
    for program in (tailscaled.built("tailscale"), tailscaled.built("tailscaled"), tailnet_world.program()):
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
        machines.running(shared=[open_directory, tailscaled.built("tailscale").parent]) as machine,
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
