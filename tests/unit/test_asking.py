"""One question over the network, to real ports: a page, a port, a certificate."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from homelab_agent.core import asking
from homelab_agent.core.asking import Answer
from tests.clock import until
from tests.neighbours import certificate
from tests.neighbours.ports import free_port
from tests.pages import serving


@pytest.mark.parametrize(
    ("status", "ok"), [(200, True), (204, True), (302, True), (399, True), (404, False), (503, False)]
)
async def test_a_page_is_good_from_200_to_399_and_a_redirection_is_not_followed(status: int, ok: bool) -> None:  # noqa: FBT001
    async with serving(status) as page:
        assert await asking.page(page.url, within=5) == Answer(ok, f"it answers {status}", status)
        assert page.asked == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/", "not a url", "http://", "ftp://127.0.0.1/"])
async def test_what_does_not_answer_is_said_and_raises_nothing(url: str) -> None:
    done = await asking.page(url.format(port=free_port()), within=5)
    assert not done.ok
    assert done.detail


async def test_what_is_no_http_is_said() -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        writer.close()

    port = free_port()
    async with await asyncio.start_server(babble, "127.0.0.1", port):
        assert not (await asking.page(f"http://127.0.0.1:{port}/", within=5)).ok


@pytest.mark.parametrize("target", ["127.0.0.1:{port}", "localhost:{port}"])
async def test_a_port_is_good_when_it_takes_a_connection(target: str) -> None:
    async with serving(200) as page:
        assert (await asking.port(target.format(port=page.port), within=5)).ok
        await until(lambda: page.met == 1, "it has heard of it")
    assert not (await asking.port(target.format(port=page.port), within=5)).ok


@pytest.mark.parametrize("target", ["127.0.0.1", "127.0.0.1:http", "127.0.0.1:99999", ":", "[::1]:x"])
async def test_a_port_that_is_none_is_said(target: str) -> None:
    done = await asking.port(target, within=5)
    assert not done.ok
    assert done.detail


async def test_a_text_may_have_to_be_in_the_page() -> None:
    async with serving(200, body=b"<h1>All is well</h1>") as page:
        assert (await asking.page(page.url, within=5, text="All is well")).ok
        answer = await asking.page(page.url, within=5, text="error")
        assert answer == Answer(ok=False, detail="it answers 200, and 'error' is not in it", status=200)


async def test_a_page_that_says_nothing_is_not_awaited_for_ever() -> None:
    left = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        left.set()

    port = free_port()
    async with await asyncio.start_server(silent, "127.0.0.1", port):
        answer = await asking.page(f"http://127.0.0.1:{port}/", within=0.2)
        await left.wait()
    assert answer == Answer(ok=False, detail="no answer within 0.2 s")


async def test_a_certificate_is_believed_or_not_and_its_end_is_told(tmp_path: Path) -> None:
    ca = await asyncio.to_thread(certificate.make, tmp_path)
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    await asyncio.to_thread(served.load_cert_chain, tmp_path / "server.pem", tmp_path / "server.key")
    believing = await asyncio.to_thread(ssl.create_default_context, cafile=ca)
    async with serving(200, tls=served) as page:
        stranger = await asking.page(page.url, within=5)
        assert (stranger.ok, stranger.valid_until) == (False, None)
        assert "certificate" in stranger.detail.lower()
        known = await asking.page(page.url, within=5, tls=believing)
        assert known.ok
        assert known.valid_until is not None
        assert known.valid_until > datetime.now(UTC) + timedelta(hours=1)
        anyway = await asking.page(page.url, within=5, tls=False)
        assert (anyway.ok, anyway.valid_until) == (True, None)
        over_a_port = await asking.port(f"127.0.0.1:{page.port}", within=5, tls=believing)
        assert over_a_port == Answer(ok=True, detail="it takes connections", valid_until=known.valid_until)
        await until(lambda: page.met == 3, "it has heard of all but the one who did not believe it")
