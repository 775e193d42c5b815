"""The health gate, against real ports: a probe is asked until it holds once, and no longer than its time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from homelab_agent.gitops.probes import Gate, ask_page, ask_port
from homelab_agent.gitops.settings import Probe
from homelab_agent.gitops.working_copy import Done
from tests.clock import MovableClock, until
from tests.neighbours.ports import free_port


@dataclass(slots=True)
class Page:
    """A server that answers each request with the next of `statuses`, and in the end always with the last."""

    statuses: list[int]
    port: int = field(default_factory=free_port)
    asked: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/health"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        head = f"HTTP/1.1 {status} Said\r\nContent-Length: 0\r\nLocation: /elsewhere\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        writer.close()


@contextlib.asynccontextmanager
async def serving(*statuses: int) -> AsyncIterator[Page]:
    page = Page(list(statuses))
    server = await asyncio.start_server(page.answer, "127.0.0.1", page.port)
    async with server:
        yield page


async def nothing(_: int) -> Done:
    raise AssertionError("the root half is not asked")


def gate(clock: MovableClock, *probes: Probe, elsewhere: Callable[[int], Done] | None = None) -> Gate:
    async def ask(index: int) -> Done:
        assert elsewhere is not None
        return elsewhere(index)

    return Gate(probes, ask if elsewhere is not None else nothing, clock)


@pytest.mark.parametrize(
    ("status", "ok"), [(200, True), (204, True), (302, True), (399, True), (404, False), (503, False)]
)
async def test_a_page_is_good_from_200_to_399_and_a_redirection_is_not_followed(status: int, ok: bool) -> None:  # noqa: FBT001
    async with serving(status) as page:
        assert await ask_page(page.url) == Done(ok, f"it answers {status}")
        assert page.asked == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/", "not a url", "http://", "ftp://127.0.0.1/"])
async def test_what_does_not_answer_is_said_and_raises_nothing(url: str) -> None:
    done = await ask_page(url.format(port=free_port()))
    assert not done.ok
    assert done.detail


async def test_what_is_no_http_is_said() -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        writer.close()

    port = free_port()
    async with await asyncio.start_server(babble, "127.0.0.1", port):
        assert not (await ask_page(f"http://127.0.0.1:{port}/")).ok


@pytest.mark.parametrize("target", ["127.0.0.1:{port}", "localhost:{port}"])
async def test_a_port_is_good_when_it_takes_a_connection(target: str) -> None:
    async with serving(200) as page:
        assert (await ask_port(target.format(port=page.port))).ok
    assert not (await ask_port(target.format(port=page.port))).ok


@pytest.mark.parametrize("target", ["127.0.0.1", "127.0.0.1:http", "127.0.0.1:99999", ":", "[::1]:x"])
async def test_a_port_that_is_none_is_said(target: str) -> None:
    done = await ask_port(target)
    assert not done.ok
    assert done.detail


async def test_without_probes_the_gate_is_open() -> None:
    assert await gate(MovableClock()).trouble() == ""


async def test_a_probe_is_asked_again_until_it_holds() -> None:
    clock = MovableClock()
    async with serving(503, 503, 200) as page:
        asked = asyncio.ensure_future(gate(clock, Probe(target=page.url)).trouble())
        for number in (1, 2):
            await until(lambda number=number: page.asked == number and clock.sleepers, "the probe waits")  # type: ignore[misc]
            await clock.advance(1)
        assert await asked == ""
        assert page.asked == 3


async def test_one_that_does_not_hold_in_its_time_is_named_with_what_it_said_last() -> None:
    clock = MovableClock()
    async with serving(503) as page:
        asked = asyncio.ensure_future(gate(clock, Probe(target=page.url, within=2.5)).trouble())
        for number, seconds in ((1, 1.0), (2, 1.0), (3, 0.5)):
            await until(lambda number=number: page.asked == number and clock.sleepers, "the probe waits")  # type: ignore[misc]
            await clock.advance(seconds)
        assert await asked == f"http {page.url} does not hold after 2.5 s: it answers 503"
        assert page.asked == 4


async def test_each_has_its_own_time_and_all_that_do_not_hold_are_named() -> None:
    clock = MovableClock()
    probes = [
        Probe(kind="unit", target="a.service", within=1.0),
        Probe(kind="container", target="caddy", within=3.0),
        Probe(kind="command", command=["true", "-x"], within=2.0),
        Probe(kind="unit", target="b.service", within=1.0),
    ]

    def answer(index: int) -> Done:
        return Done(index == 3, f"said {index}")

    asked = asyncio.ensure_future(gate(clock, *probes, elsewhere=answer).trouble())
    await clock.advance(10)
    assert await asked == (
        "unit a.service does not hold after 1 s: said 0; container caddy does not hold after 3 s: said 1;"
        " command true -x does not hold after 2 s: said 2"
    )


async def test_probes_are_asked_side_by_side() -> None:
    """One that never answers keeps none of the others from being asked."""
    clock = MovableClock()
    asked_for: set[int] = set()

    async def elsewhere(index: int) -> Done:
        asked_for.add(index)
        if index == 0:
            await asyncio.Event().wait()
        return Done(ok=True, detail="")

    probes = [Probe(kind="unit", target="x", within=1.0)] * 2
    trouble = asyncio.ensure_future(Gate(probes, elsewhere, clock).trouble())
    await until(lambda: asked_for == {0, 1}, "both are asked")
    trouble.cancel()
    await asyncio.gather(trouble, return_exceptions=True)
