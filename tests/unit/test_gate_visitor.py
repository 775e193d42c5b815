"""What a resolver may say, and what becomes of it: not known is not the same as dead."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest
from aiohttp import web

from homelab_agent.gate import dns
from homelab_agent.gate.visitor import ADDRESSES_MAX, Visitor
from tests.doh import resolver, saying
from tests.neighbours.ports import free_port

NAME = "home.a.ts.net"


@pytest.mark.parametrize(
    ("say", "why"),
    [
        (saying(code=2), "response code 2"),
        (saying(code=5), "response code 5"),
        (lambda _: web.Response(status=500), "it answers 500"),
        (lambda _: web.Response(status=302, headers={"Location": "/dns-query"}), "it answers 302"),
        (lambda _: web.Response(body=b"<html>"), "it ends too early"),
        (lambda question: web.Response(body=question), "it is a question itself"),
        (lambda _: web.Response(body=b" " * 70_000), "more than 65536 bytes"),
    ],
)
async def test_a_resolver_that_does_not_know_says_nothing_of_the_way(
    say: Callable[[bytes], web.Response], why: str
) -> None:
    async with resolver(say) as (url, _):
        found = await Visitor(url).visit(f"https://{NAME}/", "nonce")
    assert found.alive is None
    assert found.detail.startswith(f"{url} cannot say where {NAME} is.")
    assert why in found.detail


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/", "https://127.0.0.1:{port}/", "no url", "http://"])
async def test_one_that_is_not_there_neither(url: str) -> None:
    found = await Visitor(url.format(port=free_port())).visit(f"https://{NAME}/", "nonce")
    assert found.alive is None


async def test_one_that_hangs_is_given_up() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    left = asyncio.Event()
    port = free_port()
    async with await asyncio.start_server(hang, "127.0.0.1", port), asyncio.timeout(20):
        found = await Visitor(f"http://127.0.0.1:{port}/", patience=0.2).visit(f"https://{NAME}/", "nonce")
        await left.wait()
    assert found.alive is None
    assert "no answer within 0.2 s" in found.detail


async def test_one_that_leads_into_the_tailnet_proves_nothing() -> None:
    async with resolver(saying("100.64.0.1", "fd7a:115c:a1e0::1")) as (url, asked):
        found = await Visitor(url).visit(f"https://{NAME}/", "nonce")
        assert found == type(found)(None, f"{url} leads into the tailnet: no public resolver")
        assert asked == [dns.question(NAME, "A")]


async def test_where_there_are_no_short_addresses_the_long_ones_are_asked_for() -> None:
    async with resolver(saying()) as (url, asked):
        found = await Visitor(url).visit(f"https://{NAME}/", "nonce")
        assert found == type(found)(alive=False, detail=f"{NAME} is not known on the internet")
        assert asked == [dns.question(NAME, "A"), dns.question(NAME, "AAAA")]


async def test_addresses_that_nobody_listens_at_are_named_and_only_so_many_tried() -> None:
    addresses = [f"127.0.0.{number}" for number in range(1, 6)]
    async with resolver(saying(*addresses)) as (url, _):
        found = await Visitor(url).visit(f"https://{NAME}:{free_port()}/", "nonce")
    assert found.alive is False
    assert [part.partition(":")[0] for part in found.detail.split("; ")] == addresses[:ADDRESSES_MAX]


async def test_who_speaks_no_tls_is_not_asked() -> None:
    heard = b""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard = await reader.read(4096)
        writer.write(b"HTTP/1.1 405 Method Not Allowed\r\nX-Homelab-Probe: nonce\r\nContent-Length: 0\r\n\r\n")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        left.set()

    left = asyncio.Event()
    port = free_port()
    async with await asyncio.start_server(listen, "127.0.0.1", port), resolver(saying("127.0.0.1")) as (url, _):
        found = await Visitor(url).visit(f"https://{NAME}:{port}/", "nonce")
        await left.wait()
    assert found.alive is False
    assert heard
    assert b"nonce" not in heard


async def test_a_template_of_a_resolver_is_its_address() -> None:
    async with resolver(saying()) as (url, asked):
        await Visitor(url + "{?dns}").visit(f"https://{NAME}/", "nonce")
        assert asked
