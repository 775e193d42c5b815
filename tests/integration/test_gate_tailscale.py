"""What tailscaled says is read as it stands, and of what it publishes nothing is taken back but what is ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from homelab_agent.gate.reading import Entry
from homelab_agent.gate.tailscale import DaemonNotRunning, DaemonUnreachable, NotChanged, NotPermitted, Tailscaled
from tests.clock import until
from tests.neighbours.tailnet import Tailnet
from tests.neighbours.tailnet_world import FUNNEL, HTTPS, PORTS
from tests.neighbours.tailscale import VERSION
from tests.neighbours.tailscaled import PORT
from tests.user import UID, acting_as

TARGET = "http://127.0.0.1:8085"
OURS, OTHERS = 8085, 9000


def daemon(tailnet: Tailnet) -> Tailscaled:
    return Tailscaled(tailnet.homelab.socket, patience=10)  # the machine has other work, too


def everything(tailnet: Tailnet) -> set[tuple[int, str, str]]:
    return {(one.port, one.target, one.session) for one in tailnet.homelab.entries}


async def test_a_node_that_may_publish_and_publishes_nothing(tailnet: Tailnet) -> None:
    reading = await daemon(tailnet).read()
    assert reading.version == VERSION
    assert reading.backend == "Running"
    assert reading.name == tailnet.name
    assert {HTTPS, FUNNEL, PORTS} < reading.capabilities
    assert reading.cert_domains == (tailnet.name,)
    assert (reading.key_expiry, reading.shields_up, reading.operator) == (None, False, "")
    assert reading.config.raw == {}
    assert reading.config.etag


async def test_what_is_changed_is_read(tailnet: Tailnet) -> None:
    tailnet.homelab.operate("nobody")
    tailnet.homelab.shield()
    tailnet.control.withdraw(FUNNEL)
    tailnet.control.expire(timedelta(days=10))
    await until(lambda: tailnet.homelab.status["Self"].get("KeyExpiry"), "the node is told")
    reading = await daemon(tailnet).read()
    assert reading.operator == "nobody"
    assert reading.shields_up
    assert FUNNEL not in reading.capabilities
    assert reading.key_expiry is not None
    assert timedelta(days=9) < reading.key_expiry - datetime.now(UTC) < timedelta(days=11)


@pytest.mark.parametrize(("change", "backend"), [("down", "Stopped"), ("log_out", "NeedsLogin")])
async def test_a_node_that_is_not_connected_says_why(tailnet: Tailnet, change: str, backend: str) -> None:
    getattr(tailnet.homelab, change)()
    assert (await daemon(tailnet).read()).backend == backend


async def test_all_that_is_published_is_seen_as_the_command_prints_it(tailnet: Tailnet) -> None:
    homelab = tailnet.homelab
    homelab.publish(OTHERS, port=10000)
    with homelab.session(OURS), homelab.session(OTHERS, port=443, public=False):
        config = (await daemon(tailnet).read()).config
        assert config.raw == json.loads(homelab("funnel", "status", "--json"))
        assert config == await daemon(tailnet).serve_config()
        sessions = {one.port: one.session for one in homelab.entries}
        assert config.entries(PORT) == [Entry(sessions[PORT], tailnet.name, PORT, TARGET, is_funnel=True)]
        assert config.entries(443) == [
            Entry(sessions[443], tailnet.name, 443, "http://127.0.0.1:9000", is_funnel=False)
        ]
        assert config.entries(10000) == [Entry("", tailnet.name, 10000, "http://127.0.0.1:9000", is_funnel=True)]
        assert config.entries(8444) == []


async def test_a_daemon_that_hangs_is_given_up_while_all_else_goes_on(tailnet: Tailnet) -> None:
    tailnet.homelab.freeze()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.01)

    beside = asyncio.ensure_future(others())
    try:
        async with asyncio.timeout(10):
            with pytest.raises(DaemonUnreachable, match=r"no answer within 0\.3 s") as caught:
                await Tailscaled(tailnet.homelab.socket, patience=0.3).read()
    finally:
        beside.cancel()
    assert not isinstance(caught.value, DaemonNotRunning)
    assert turns > 5
    tailnet.homelab.thaw()
    assert (await daemon(tailnet).read()).backend == "Running"


async def test_a_daemon_that_does_not_run_is_another_matter(tailnet: Tailnet) -> None:
    tailnet.homelab.kill()
    with pytest.raises(DaemonNotRunning, match=r"homelab\.sock"):
        await daemon(tailnet).read()
    with pytest.raises(DaemonNotRunning):
        await Tailscaled(Path("/nowhere/tailscaled.sock")).drop(PORT, TARGET)


async def test_of_all_entries_only_ours_in_the_background_is_taken_back(tailnet: Tailnet) -> None:
    homelab = tailnet.homelab
    homelab.publish(OURS)
    homelab.publish(OURS, port=10000)
    with homelab.session(OTHERS, port=443) as child:
        before = everything(tailnet)
        (gone,) = await daemon(tailnet).drop(PORT, TARGET)
        assert gone == Entry("", tailnet.name, PORT, TARGET, is_funnel=True)
        assert everything(tailnet) == before - {(PORT, TARGET, "")}
        assert child.runs
        assert await daemon(tailnet).drop(PORT, TARGET) == []
        assert everything(tailnet) == before - {(PORT, TARGET, "")}


async def test_one_that_points_elsewhere_stays_whatever_its_port(tailnet: Tailnet) -> None:
    tailnet.homelab.publish(OTHERS)
    before = tailnet.homelab.serve_config
    assert await daemon(tailnet).drop(PORT, TARGET, sessions=True) == []
    assert tailnet.homelab.serve_config == before


async def test_one_that_shares_the_port_with_another_is_not_ours_to_end(tailnet: Tailnet) -> None:
    tailnet.homelab.publish(OURS)
    tailnet.homelab("funnel", "--bg", f"--https={PORT}", "--set-path=/other", str(OTHERS))
    before = tailnet.homelab.serve_config
    assert await daemon(tailnet).drop(PORT, TARGET, sessions=True) == []
    assert tailnet.homelab.serve_config == before


async def test_a_session_goes_only_when_that_is_asked_for_and_its_holder_ends(tailnet: Tailnet) -> None:
    homelab = tailnet.homelab
    with homelab.session(OURS) as child, homelab.session(OTHERS, port=443) as other:
        assert await daemon(tailnet).drop(PORT, TARGET) == []
        (gone,) = await daemon(tailnet).drop(PORT, TARGET, sessions=True)
        assert gone.session
        assert {one.port for one in homelab.entries} == {443}
        await until(lambda: not child.runs, "its holder has ended")
        assert other.runs
        await until(lambda: tailnet.public.reaches(443), "the other one is published as before")


@contextlib.asynccontextmanager
async def before_each_change(
    tailnet: Tailnet, path: Path, happens: Iterator[Callable[[], None]]
) -> AsyncIterator[Tailscaled]:
    """Give the daemon by a way on which the next of `happens` is done before a change arrives."""
    copies: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while said := await reader.read(65536):
            if said.startswith(b"POST"):
                await asyncio.to_thread(next(happens, lambda: None))
            writer.write(said)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(tailnet.homelab.socket)
        copies.update({asyncio.create_task(copy(reader, back)), asyncio.create_task(copy(there, writer))})

    async with await asyncio.start_unix_server(serve, path):
        yield Tailscaled(path, patience=10)
        await asyncio.gather(*copies)


async def test_what_others_publish_meanwhile_is_not_lost(tailnet: Tailnet, open_directory: Path) -> None:
    homelab = tailnet.homelab
    homelab.publish(OURS)
    others = (partial(homelab.publish, OTHERS, port=port, public=False) for port in (9101, 9102, 9103))
    async with before_each_change(tailnet, open_directory / "way", others) as between:
        (gone,) = await between.drop(PORT, TARGET)
    assert gone.target == TARGET
    assert {one.port for one in homelab.entries} == {9101, 9102, 9103}


async def test_who_is_not_the_operator_may_read_and_is_told_what_lets_him_change(tailnet: Tailnet) -> None:
    tailnet.homelab.publish(OURS)
    with acting_as(UID):
        assert (await daemon(tailnet).read()).config.entries(PORT)
        with pytest.raises(NotPermitted, match=r"nobody may not change.*serve config denied") as caught:
            await daemon(tailnet).drop(PORT, TARGET)
    assert caught.value.repair.startswith("sudo homelab-agent gate operator nobody")
    assert tailnet.homelab.entries
    tailnet.homelab.operate("nobody")
    with acting_as(UID):
        assert await daemon(tailnet).drop(PORT, TARGET)
    assert not tailnet.homelab.entries


async def test_where_somebody_publishes_a_directory_the_operator_is_not_enough(
    tailnet: Tailnet, open_directory: Path
) -> None:
    tailnet.homelab("serve", "--bg", "--https=443", str(open_directory))
    tailnet.homelab.publish(OURS)
    tailnet.homelab.operate("nobody")
    with acting_as(UID), pytest.raises(NotPermitted, match="must be root"):
        await daemon(tailnet).drop(PORT, TARGET)
    assert await daemon(tailnet).drop(PORT, TARGET)
    assert {one.port for one in tailnet.homelab.entries} == {443}


async def test_a_node_that_is_disconnected_takes_back_what_it_would_publish_again(tailnet: Tailnet) -> None:
    tailnet.homelab.publish(OURS)
    tailnet.homelab.down()
    assert [one.session for one in await daemon(tailnet).drop(PORT, TARGET)] == [""]
    tailnet.homelab.up()
    assert not tailnet.homelab.entries


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"Version',
        b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"Version":1}',
        b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"Self":"nobody"}',
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b" " * 9 * 1024 * 1024,
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\ndenied",
        b"",
    ],
)
async def test_what_is_no_tailscaled_is_said_to_be_none(open_directory: Path, said: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(said)
            await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        left.set()

    left = asyncio.Event()
    path = open_directory / "else.sock"
    async with await asyncio.start_unix_server(answer, path):
        with pytest.raises(DaemonUnreachable, match=r"else\.sock"):
            await Tailscaled(path, patience=5).read()
        await left.wait()


async def test_a_socket_that_nobody_serves_any_more_is_a_daemon_that_does_not_run(open_directory: Path) -> None:
    path = open_directory / "dead.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(DaemonNotRunning):
        await Tailscaled(path).read()


PUBLISHED = {"TCP": {"8443": {"HTTPS": True}}, "Web": {"a.ts.net:8443": {"Handlers": {"/": {"Proxy": TARGET}}}}}


@pytest.mark.parametrize(
    ("etag", "status", "said", "why", "tries"),
    [
        ("abc", 500, '{"error":"updating config: netMap is nil"}', "updating config: netMap is nil", 1),
        ("abc", 412, "etag mismatch", "somebody else changes it, 5 times in a row", 5),
        ("", 200, "", "does not say what its configuration is known by", 0),
    ],
)
async def test_a_daemon_that_takes_no_change_says_why(
    open_directory: Path, etag: str, status: int, said: str, why: str, tries: int
) -> None:
    """The real one does so where nobody can ask it: between two of its states, or when two write without an end."""
    asked = []

    async def tell(_: web.Request) -> web.Response:
        return web.json_response(PUBLISHED, headers={"Etag": etag} if etag else {})

    async def change(request: web.Request) -> web.Response:
        asked.append((request.headers["If-Match"], await request.json()))
        return web.Response(status=status, text=said)

    app = web.Application()
    app.add_routes([web.get("/localapi/v0/serve-config", tell), web.post("/localapi/v0/serve-config", change)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(open_directory / "t.sock")).start()
        with pytest.raises(NotChanged, match=why):
            await Tailscaled(open_directory / "t.sock", patience=5).drop(PORT, TARGET)
    finally:
        await runner.cleanup()
    assert asked == [(etag, {})] * tries
