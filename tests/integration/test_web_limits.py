"""Clients that drip, sit, stall and crowd: each is cut, and the others are served meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homelab_agent.core.capability import Capability
from homelab_agent.core.http import Answer, Audience, Event, Events, Json, Request, Response, Route
from homelab_agent.web.settings import WebSettings
from tests.website import FUNNEL, Site, serving

DEADLINE = 0.6
GRACE = 2.0
HEAD = b"GET /api/health/live HTTP/1.1\r\nHost: localhost\r\n"


async def count(request: Request) -> Answer:
    return Json({"bytes": sum([len(chunk) async for chunk in request.chunks()])})


async def ignore(_request: Request) -> Answer:
    return Json({})


async def large(_request: Request) -> Answer:
    return Response(b"x" * 50_000_000, content_type="text/plain")


async def flood(_request: Request) -> Answer:
    async def source() -> AsyncIterator[Event]:
        while True:
            yield Event("flood", "x" * 100_000)
            await asyncio.sleep(0)

    return Events(source())


WORKSHOP = Capability(
    name="workshop",
    routes=[
        Route("POST", "/count", count, login=False, body_max=1_000_000),
        Route("POST", "/ignore", ignore, login=False, body_max=1_000_000),
        Route("GET", "/large", large),
        Route("GET", "/flood", flood, deadline=None),
        Route("POST", "/api/webhook/gitops", count, audience=Audience.PUBLIC, login=False, body_max=1_000_000),
    ],
)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    settings = WebSettings(
        listen="127.0.0.1:0", hosts=["server.tail1234.ts.net"], max_connections=8, receive_deadline=DEADLINE
    )
    async with serving(tmp_path, [WORKSHOP], settings=settings) as site:
        site.base.door.open()
        yield site


async def drip(site: Site, begin: bytes, drop: bytes, *, every: float = 0.05) -> tuple[float, bytes]:
    """Send `begin`, then `drop` again and again; return when the server cut that, and what it said."""
    reader, writer = await site.connect()
    writer.write(begin)
    start = time.monotonic()
    answer = bytearray()

    async def listen() -> None:
        while data := await reader.read(65536):
            answer.extend(data)

    listening = asyncio.ensure_future(listen())
    try:
        async with asyncio.timeout(20):
            while not listening.done():
                writer.write(drop)
                await asyncio.wait({listening}, timeout=every)
        listening.exception()
    finally:
        writer.close()
    return time.monotonic() - start, bytes(answer)


@pytest.mark.parametrize(
    ("begin", "drop"), [(b"", b"G"), (b"GET / HT", b"T"), (HEAD, b"X-Drop: x\r\n"), (b"", b"\r\n")]
)
async def test_a_head_that_drips_is_cut(site: Site, begin: bytes, drop: bytes) -> None:
    took, answer = await drip(site, begin, drop)
    assert took < DEADLINE + GRACE
    assert not answer.startswith(b"HTTP/1.1 2")


async def test_a_head_that_drips_after_a_good_request_is_cut_too(site: Site) -> None:
    took, answer = await drip(site, HEAD + b"\r\n" + HEAD, b"X-Drop: x\r\n")
    assert took < 2 * DEADLINE + GRACE
    assert answer.count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize("path", [b"/count", b"/ignore"])
@pytest.mark.parametrize("framing", [b"Content-Length: 900000", b"Transfer-Encoding: chunked"])
async def test_a_body_that_drips_is_cut(site: Site, path: bytes, framing: bytes) -> None:
    begin = b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + framing + b"\r\n\r\n"
    took, answer = await drip(site, begin, b"1\r\nx\r\n")
    assert took < DEADLINE + GRACE + 2.0
    assert answer.startswith(b"HTTP/1.1 408" if path == b"/count" else b"HTTP/1.1 200")


async def test_the_public_webhook_is_cut_like_all(site: Site) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in FUNNEL.items())
    begin = f"POST /api/webhook/gitops HTTP/1.1\r\n{lines}Content-Length: 1000\r\n\r\n".encode()
    took, answer = await drip(site, begin, b"x")
    assert took < DEADLINE + GRACE + 2.0
    assert answer.startswith(b"HTTP/1.1 408")


async def test_a_slow_but_steady_upload_is_let_finish(site: Site) -> None:
    reader, writer = await site.connect()
    writer.write(b"POST /count HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40000\r\nConnection: close\r\n\r\n")
    start = time.monotonic()
    for _ in range(20):
        writer.write(b"x" * 2000)
        await asyncio.sleep(2.5 * DEADLINE / 20)
    assert time.monotonic() - start > 2 * DEADLINE
    assert (await reader.read()).endswith(b'{"bytes":40000}')
    writer.close()


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 4, 70_000])
async def test_a_body_that_comes_with_its_head_is_no_head(site: Site, cut: int) -> None:
    head = b"POST /count HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\nConnection: close\r\n\r\n"
    raw, place = head + b"x" * 900_000, len(head) - 4 + cut
    reader, writer = await site.connect()
    writer.write(raw[:place])
    await asyncio.sleep(0.01)
    writer.write(raw[place:])
    assert (await reader.read()).endswith(b'{"bytes":900000}')
    writer.close()


async def test_a_connection_that_says_nothing_is_closed(site: Site) -> None:
    reader, writer = await site.connect()
    start = time.monotonic()
    assert await asyncio.wait_for(reader.read(), DEADLINE + GRACE) == b""
    assert time.monotonic() - start > DEADLINE / 2
    writer.close()


async def test_a_connection_is_kept_for_the_next_request(site: Site) -> None:
    reader, writer = await site.connect()
    for _ in range(5):
        writer.write(HEAD + b"\r\n")
        assert b"200 OK" in await reader.readuntil(b'{"status":"alive"}')
        await asyncio.sleep(DEADLINE / 4)
    writer.close()


async def test_requests_sent_ahead_are_answered_in_order(site: Site) -> None:
    raw = b"".join(
        b"POST /count HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (n, b"x" * n) for n in range(1, 40)
    )
    answer = await site.send(raw + HEAD + b"Connection: close\r\n\r\n")
    assert [int(part.split(b"}")[0]) for part in answer.split(b'{"bytes":')[1:]] == list(range(1, 40))


async def test_a_head_without_end_is_cut_early(site: Site) -> None:
    took, answer = await drip(site, HEAD, b"X-Some-Header: " + b"x" * 7000 + b"\r\n", every=0)
    assert took < DEADLINE + GRACE
    assert b"200" not in answer.partition(b"\r\n")[0]


async def test_whoever_does_not_take_a_large_answer_is_cut(site: Site) -> None:
    for path in (b"/large", b"/flood"):
        reader, writer = await site.connect()
        writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        await site.until_connections(0, seconds=2 * DEADLINE + GRACE)
        writer.transport.abort()


async def test_beyond_the_cap_one_hears_so_at_once_and_the_command_line_gets_through(site: Site) -> None:
    crowd = [await site.connect() for _ in range(8)]
    await site.until_connections(8)
    assert (await site.send(HEAD + b"\r\n", seconds=2)).startswith(b"HTTP/1.1 503 ")
    assert await site.local("GET", "/api/health/live") == {"status": "alive"}
    for _, writer in crowd:
        writer.close()
    await site.until_connections(0)
    assert (await site.ask("GET", "/api/health/live")).status == 200


async def test_drips_from_everywhere_do_not_keep_the_others_waiting(site: Site) -> None:
    drips = [asyncio.ensure_future(drip(site, HEAD, b"X: x\r\n")) for _ in range(6)]
    await site.until_connections(6)
    start = time.monotonic()
    assert (await site.ask("GET", "/api/health/live")).status == 200
    assert time.monotonic() - start < DEADLINE
    await asyncio.gather(*drips)


async def test_a_client_that_asks_first_is_told_to_go_on_or_not(site: Site) -> None:
    def expecting(path: str, length: int) -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n"
        return f"{head}Connection: close\r\n\r\n".encode()

    reader, writer = await site.connect()
    writer.write(expecting("/count", 5))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"12345")
    assert (await reader.read()).endswith(b'{"bytes":5}')
    writer.close()
    for path, length, status in (
        ("/count", 2_000_000, b"413"),
        ("/nowhere", 5, b"404"),
        ("/logout", 5, b"303"),
    ):
        reader, writer = await site.connect()
        writer.write(expecting(path, length))
        assert (await reader.readline()).startswith(b"HTTP/1.1 " + status)
        writer.close()
