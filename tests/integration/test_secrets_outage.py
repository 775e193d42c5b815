"""OpenBao that cannot be asked: each way is told apart, holds nobody up, and is over when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from homelab_agent.secrets.client import Client
from homelab_agent.secrets.errors import (
    Broken,
    Busy,
    CaFaulty,
    CannotAsk,
    NotOpenBao,
    Sealed,
    Slow,
    SnapshotBroken,
    Standby,
    TlsRefused,
    Unexpected,
    Uninitialized,
    Unreachable,
)
from homelab_agent.secrets.health import State
from homelab_agent.secrets.snapshot import examine
from homelab_agent.secrets.transport import ATTEMPTS
from tests.impostor import answering
from tests.neighbours import certificate
from tests.neighbours.openbao import OpenBao
from tests.openbao_client import Home
from tests.waiting import until

POSTGRES = "secret/homelab/postgres"


@pytest.fixture(params=["auto", "approle"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def home(openbao: OpenBao, tmp_path: Path) -> Home:
    openbao.put("homelab/postgres", password="first-of-them")
    return Home(openbao, tmp_path)


@pytest.fixture
def tls_home(openbao_tls: OpenBao, tmp_path: Path) -> Home:
    openbao_tls.put("homelab/postgres", password="first-of-them")
    return Home(openbao_tls, tmp_path)


@pytest.fixture
def bare(open_directory: Path) -> Iterator[OpenBao]:
    """OpenBao as it is when nobody has initialised it."""
    server = OpenBao(open_directory)
    server.configuration.write_text(server.configuration.read_text().split('initialize "')[0])
    server.spawn()
    try:
        until(lambda: server.health == 501, "it says that it is not initialised")
        yield server
    finally:
        server.close()


async def until_read(client: Client) -> None:
    """Read until that can be done again: what was wrong is found out by a request at the most."""
    with suppress(CannotAsk):
        await client.read(POSTGRES)
    assert (await client.read(POSTGRES)).number == 1


async def test_a_sealed_server_says_so_and_serves_again_when_it_is_not(home: Home, way: str) -> None:
    async with home.asking(login=way) as client:
        await client.read(POSTGRES)
        home.openbao.seal()
        for ask in (client.read, client.current):
            with pytest.raises(Sealed):
                await ask(POSTGRES)
        server = await client.status()
        assert (server.state, server.detail) == (State.SEALED, f"OpenBao {server.version} is sealed")
        home.openbao.unseal()
        assert (await client.read(POSTGRES)).number == 1
        assert (await client.status()).state is State.ACTIVE


async def test_who_starts_while_it_is_sealed_logs_in_when_it_is_not(home: Home, way: str) -> None:
    home.openbao.seal()
    async with home.asking(login=way) as client:
        with pytest.raises(Sealed):
            await client.read(POSTGRES)
        home.openbao.unseal()
        assert (await client.read(POSTGRES)).number == 1


async def test_a_restart_between_two_requests_is_not_noticed(home: Home, way: str) -> None:
    async with home.asking(login=way) as client:
        await client.read(POSTGRES)
        home.openbao.restart()
        assert await client.current(POSTGRES) == 1
        home.openbao.restart()
        assert (await client.status()).state is State.ACTIVE


async def test_a_killed_server_is_unreachable_until_it_is_back(home: Home, way: str) -> None:
    async with home.asking(login=way) as client:
        await client.read(POSTGRES)
        home.openbao.kill()
        with pytest.raises(Unreachable, match="Connection refused"):
            await client.read(POSTGRES)
        server = await client.status()
        assert server.state is State.UNREACHABLE
        assert server.repair == Unreachable.repair
        home.openbao.start()
        assert (await client.read(POSTGRES)).number == 1


async def test_a_frozen_server_holds_neither_the_loop_nor_who_waits_behind(home: Home, way: str) -> None:
    async with home.asking(login=way, timeout=2) as client:
        await client.read(POSTGRES)
        home.openbao.freeze()
        asked = [asyncio.create_task(client.read(POSTGRES)) for _ in range(100)]
        turns = 0
        while not all(task.done() for task in asked):
            await asyncio.sleep(0.001)
            turns += 1
        assert turns > 3, "the loop stood still"
        assert {type(task.exception()) for task in asked} == {Slow}
        assert (await client.status()).state is State.UNREACHABLE
        home.openbao.thaw()
        assert (await client.read(POSTGRES)).number == 1


async def test_a_frozen_server_does_not_keep_the_agent_from_stopping(home: Home) -> None:
    client = home.client(login="approle", timeout=60)
    await client.read(POSTGRES)
    home.openbao.freeze()
    asked = asyncio.create_task(client.read(POSTGRES))
    await asyncio.sleep(0)
    async with asyncio.timeout(20):  # a minute is what the request takes
        await client.close()
    asked.cancel()
    home.openbao.thaw()


async def test_a_server_that_was_never_initialised_says_so(bare: OpenBao, tmp_path: Path) -> None:
    async with Home(bare, tmp_path).asking(login="inline") as client:
        with pytest.raises(Uninitialized) as error:
            await client.read(POSTGRES)
        assert error.value.repair == "homelab-agent secrets bootstrap"
        assert (await client.status()).state is State.UNINITIALIZED


async def test_only_the_authority_that_is_named_vouches_for_it(tls_home: Home, way: str) -> None:
    async with tls_home.asking(login=way) as client:
        assert (await client.read(POSTGRES)).number == 1
    async with tls_home.asking(login=way, ca=None) as client:  # that of the system
        with pytest.raises(TlsRefused, match="certificate verify failed"):
            await client.read(POSTGRES)
        assert (await client.status()).state is State.UNREACHABLE


async def test_a_new_authority_is_known_without_a_restart(tls_home: Home, way: str) -> None:
    assert tls_home.openbao.ca is not None
    ca = tls_home.directory / "ca.pem"
    other = tls_home.directory / "other"
    other.mkdir()
    ca.write_bytes(certificate.make(other).read_bytes())
    async with tls_home.asking(login=way, ca=ca) as client:
        with pytest.raises(TlsRefused):
            await client.read(POSTGRES)
        ca.write_text("in the middle of being replaced")
        with pytest.raises((TlsRefused, CaFaulty)):
            await client.read(POSTGRES)
        ca.write_bytes(tls_home.openbao.ca.read_bytes())
        await until_read(client)


async def test_an_authority_that_is_none_is_a_fault_of_the_configuration(tls_home: Home) -> None:
    empty = tls_home.directory / "empty.pem"
    for ca in (tls_home.directory / "absent.pem", empty):
        async with tls_home.asking(ca=ca) as client:
            with pytest.raises(CaFaulty) as error:
                await client.read(POSTGRES)
            assert str(ca) in error.value.repair
            assert (await client.status()).state is State.UNREACHABLE
        empty.touch()


async def test_http_to_https_and_the_other_way_round_are_told(tls_home: Home, home: Home) -> None:
    async with tls_home.asking(url=tls_home.openbao.url.replace("https", "http")) as client:
        with pytest.raises(NotOpenBao, match="Client sent an HTTP request to an HTTPS server"):
            await client.read(POSTGRES)
    async with home.asking(url=home.openbao.url.replace("http", "https")) as client:
        with pytest.raises(TlsRefused):
            await client.read(POSTGRES)


async def test_a_socket_that_is_not_there_is_unreachable(home: Home) -> None:
    async with home.asking(url=f"unix:{home.directory}/absent.sock") as client:
        with pytest.raises(Unreachable, match="No such file or directory"):
            await client.read(POSTGRES)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", NotOpenBao),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello", NotOpenBao),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{", Unreachable),
        (b'HTTP/1.1 500 Oh\r\nContent-Length: 16\r\n\r\n{"errors":["no"]}', Broken),
        (b"HTTP/1.1 429 Later\r\nContent-Length: 0\r\n\r\n", Busy),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Unreachable),
        (b"", Unreachable),
    ],
)
async def test_what_passes_is_asked_again_and_the_rest_is_not(
    home: Home, answer: bytes, error: type[CannotAsk]
) -> None:
    with answering(answer) as impostor:
        async with home.asking(login="inline", url=impostor.url) as client:
            with pytest.raises(error):
                await client.read(POSTGRES)
        asked = [head for head in impostor.requests if b"/v1/secret/data/" in head]
        assert len(asked) == (ATTEMPTS if error in {Unreachable, Broken, Busy} else 1)


@pytest.mark.parametrize("body", [b"{}", b'{"data":null}', b'{"data":{"data":7}}', b'{"data":{"keys":["a"]}}'])
async def test_an_answer_that_openbao_would_not_give_is_no_secret(home: Home, body: bytes) -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body) as impostor:
        for way in ("auto", "inline", "approle"):
            async with home.asking(login=way, url=impostor.url) as client:
                for ask in (client.read, client.current):
                    with pytest.raises(NotOpenBao):
                        await ask(POSTGRES)


async def test_a_refusal_of_another_kind_is_passed_on(home: Home) -> None:
    body = b'{"errors":["unsupported operation"]}'
    with answering(b"HTTP/1.1 405 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body) as impostor:
        async with home.asking(login="inline", url=impostor.url) as client:
            with pytest.raises(Unexpected, match=r"secret/data/homelab/postgres \(405\). \(unsupported operation\)"):
                await client.read(POSTGRES)


async def test_who_is_older_than_2_4_is_logged_in_to_for_a_token(home: Home) -> None:
    body = b'{"initialized":true,"sealed":false,"standby":false,"version":"2.3.2"}'
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body) as impostor:
        async with home.asking(login="auto", url=impostor.url) as client:
            with pytest.raises(NotOpenBao):
                await client.read(POSTGRES)
        lines = [head.split(b" HTTP/1.1")[0] for head in impostor.requests]
        assert lines == [b"GET /v1/sys/health", b"POST /v1/auth/approle/login"]


async def test_what_is_asked_while_the_agent_stops_is_not_there(home: Home) -> None:
    client = home.client()
    await client.read(POSTGRES)
    await client.close()
    await client.close()
    with pytest.raises(Unreachable, match="the agent is stopping"):
        await client.read(POSTGRES)
    assert (await client.status()).state is State.UNREACHABLE


async def test_nobody_is_told_our_log_in_by_a_redirection(home: Home) -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as elsewhere:
        there = f"Location: {elsewhere.url}/v1/secret/data/homelab/postgres".encode()
        with answering(b"HTTP/1.1 307 Temporary Redirect\r\n" + there + b"\r\nContent-Length: 0\r\n\r\n") as standby:
            async with home.asking(login="inline", url=standby.url) as client:
                with pytest.raises(Standby):
                    await client.read(POSTGRES)
        assert elsewhere.requests == []


async def test_an_answer_that_trickles_in_is_given_up_and_the_next_call_goes_on(home: Home) -> None:
    """Each byte comes long before the socket's timeout is over: only the lane can end it."""
    drops = [b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", *[b" "] * 1000]
    with answering(*drops, pause=0.05) as impostor:
        async with home.asking(login="inline", url=impostor.url) as client:
            client._lane._within = 0.5
            with pytest.raises(Slow) as error:
                await client.read(POSTGRES)
            assert error.value.fields["seconds"] == client._within == 41
            client._lane._within = client._within
            impostor.pieces = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"]
            with pytest.raises(NotOpenBao):
                await client.read(POSTGRES)


def test_a_snapshot_that_was_cut_short_is_known_as_such(home: Home) -> None:
    whole, cut = home.directory / "whole", home.directory / "cut"

    async def take() -> None:
        async with home.asking() as client:
            await client.snapshot(whole)

    asyncio.run(take())
    examine(whole)
    data = whole.read_bytes()
    for size in range(0, len(data), 97):
        cut.write_bytes(data[:size])
        with pytest.raises(SnapshotBroken):
            examine(cut)
    for at in range(20, len(data) - 20, 997):
        cut.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        with pytest.raises(SnapshotBroken):
            examine(cut)
