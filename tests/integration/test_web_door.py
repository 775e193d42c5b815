"""The public door at real sockets: who is let in while it is open, and what is left of it when it is shut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homelab_agent.core.capability import Capability
from homelab_agent.core.door import PUBLIC_PATH, Visits
from homelab_agent.core.http import Answer as HandlerAnswer
from homelab_agent.core.http import Audience, Event, Events, Json, Request, Response, Route
from homelab_agent.web.limits import Guard
from homelab_agent.web.server import Server
from homelab_agent.web.settings import WebSettings
from tests.clock import until
from tests.website import FUNNEL, HOST, TAILNET, Site, serving

T = TypeVar("T")
LOOPBACK = {"Host": "localhost"}
LARGE = 50_000_000


@dataclass(slots=True)
class Workshop:
    """Handlers that wait as long as the test wants; `begun` and `done` are the bodies that came, by who sent them."""

    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    begun: list[Audience] = field(default_factory=list)
    done: list[tuple[Audience, bytes]] = field(default_factory=list)
    streams_ended: int = 0

    async def take(self, request: Request) -> HandlerAnswer:
        """Take a body, wait, and say how long it was."""
        self.begun.append(request.caller.audience)
        body = b"".join([chunk async for chunk in request.chunks()])
        await self.go_on.wait()
        self.done.append((request.caller.audience, body))
        match body:
            case b"large":
                return Response(b"x" * LARGE, content_type="text/plain")
            case b"stream":
                return Events(self.stream())
            case _:
                return Json({"bytes": len(body)})

    async def stream(self) -> AsyncIterator[Event]:
        """Say one thing, and nothing more until it is ended."""
        try:
            yield Event("first", 1)
            await asyncio.Event().wait()
        finally:
            self.streams_ended += 1

    def capability(self) -> Capability:
        return Capability(
            name="workshop",
            routes=[
                Route("POST", PUBLIC_PATH, self.take, audience=Audience.PUBLIC, login=False, body_max=1_000_000),
                Route("POST", "/take", self.take, login=False, body_max=1_000_000),
            ],
        )


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture
async def site(tmp_path: Path, workshop: Workshop) -> AsyncIterator[Site]:
    async with serving(tmp_path, [workshop.capability()]) as site:
        yield site
        workshop.go_on.set()


def request(sender: dict[str, str], body: bytes = b"", *, path: str = "", method: str = "POST", length: int = -1,
            **more: str) -> bytes:  # fmt: skip
    """Return a request as bytes: to the webhook if it is the public's, else to a path of the others."""
    path = path or (PUBLIC_PATH if sender is FUNNEL else "/take")
    headers = {**sender, **more, "Content-Length": str(len(body) if length < 0 else length)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer, or what came of it."""

    status: int
    headers: dict[str, str]
    body: bytes


class Line:
    """One connection, as tailscaled keeps it: requests of different people come over it."""

    def __init__(self, site: Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        port = writer.get_extra_info("sockname")[1]
        (self.guard,) = (one for one in guards(site) if one._transport.get_extra_info("peername")[1] == port)  # type: ignore[union-attr]

    @property
    def is_ended(self) -> bool:
        """Whether the server has ended it, as far as the server knows."""
        transport = self.guard._transport
        return transport is None or transport.is_closing()

    def send(self, raw: bytes) -> None:
        self._writer.write(raw)

    async def hear(self) -> Heard:
        """Return the next answer; raises IncompleteReadError or ConnectionError when it is cut."""
        first, *rest = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest if line)}
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return Heard(int(first.split()[1]), headers, body)

    async def begins(self) -> None:
        """Wait until an answer's head has come."""
        await self._reader.readuntil(b"\r\n\r\n")

    async def rest(self) -> bytes:
        """Return what still comes until the connection ends, however it ends."""
        came = bytearray()
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(1 << 20):
                came += data
        return bytes(came)

    async def until_read(self, size: int) -> None:
        """Wait until the server has taken so many bytes of a head."""
        await until(lambda: self.guard._head == size, f"{size} bytes of a head are read")

    def close(self) -> None:
        self._writer.transport.abort()


def guards(site: Site) -> list[Guard]:
    server = getattr(site.web.tasks[0].run, "__self__", None)
    assert isinstance(server, Server)
    return [guard for guards in server._guards for guard in guards]


@contextlib.asynccontextmanager
async def lines(site: Site, number: int) -> AsyncIterator[list[Line]]:
    """Open connections, all of them accepted."""
    before = len(guards(site))
    pairs = [await site.connect() for _ in range(number)]
    await until(lambda: len(guards(site)) == before + number, "the connections are accepted")
    opened = [Line(site, *pair) for pair in pairs]
    try:
        yield opened
    finally:
        for one in opened:
            one.close()


@contextlib.asynccontextmanager
async def line(site: Site) -> AsyncIterator[Line]:
    async with lines(site, 1) as (one,):
        yield one


async def soon(work: Coroutine[Any, Any, T]) -> T:
    """Return what comes; a test that waits in vain ends."""
    return await asyncio.wait_for(work, 20)


# Who is let in.


async def test_the_public_hears_that_it_is_shut_and_nothing_else(site: Site, workshop: Workshop) -> None:
    for more in ({}, await site.token(), {"Host": "strange.example"}, {"Origin": "https://evil.example"}):
        for method, path in (("GET", "/"), ("POST", PUBLIC_PATH), ("GET", PUBLIC_PATH), ("GET", "/api/health/live")):
            answer = await site.ask(method, path, headers={**FUNNEL, **more})
            assert answer.status == 503
            assert answer.headers["Retry-After"]
            assert answer.headers["Connection"] == "close"
            assert "Location" not in answer.headers
            assert b"strange" not in answer.body
    assert workshop.begun == []
    site.base.door.open()
    assert site.base.door.visits() == Visits(requests=0, sources=0, sent_bytes=0)


async def test_while_it_is_shut_no_body_is_waited_for(site: Site) -> None:
    async with line(site) as caller:
        caller.send(request(FUNNEL, b"the first of many bytes", length=1_000_000))
        assert (await soon(caller.hear())).status == 503


async def test_while_it_is_open_the_public_reaches_the_webhook(site: Site, workshop: Workshop) -> None:
    workshop.go_on.set()
    site.base.door.open()
    delivered = await site.ask("POST", PUBLIC_PATH, headers=FUNNEL, body=b"push")
    assert (delivered.status, delivered.json()) == (200, {"bytes": 4})
    assert (await site.ask("GET", PUBLIC_PATH, headers={**FUNNEL, "X-Homelab-Probe": "guessed"})).status == 405
    assert (await site.ask("GET", "/", headers=FUNNEL)).status == 404
    assert (await site.ask("GET", "/api/health/live", headers=FUNNEL)).status == 404
    assert (await site.ask("GET", "/", headers={**FUNNEL, "Host": "strange.example"})).status == 421
    site.base.door.shut()
    assert (await site.ask("POST", PUBLIC_PATH, headers=FUNNEL)).status == 503


async def test_visits_are_counted_with_their_sources_and_what_they_were_sent(site: Site, workshop: Workshop) -> None:
    workshop.go_on.set()
    site.base.door.open()
    size = 0
    for last, path in ((7, PUBLIC_PATH), (8, "/"), (7, "/login")):
        sender = {**FUNNEL, "X-Forwarded-For": f"198.51.100.{last}", "Connection": "close"}
        size += len(await site.send(request(sender, b"x", path=path)))
    await site.send(request(TAILNET, b"x", Connection="close"))
    assert (await site.ask("GET", "/api/health/live")).status == 200
    site.base.door.shut()
    assert (await site.ask("POST", PUBLIC_PATH, headers=FUNNEL)).status == 503
    assert site.base.door.visits() == Visits(requests=3, sources=2, sent_bytes=size)


# The gate's own probe.


@pytest.mark.parametrize("is_open", [False, True])
async def test_the_gates_own_probe_is_answered_at_any_time_and_is_no_visit(
    site: Site, workshop: Workshop, *, is_open: bool
) -> None:
    if is_open:
        site.base.door.open()
    with site.base.door.probing() as nonce:
        through = {"Tailscale-Funnel-Request": "?1", "X-Homelab-Probe": nonce}
        whole = await site.ask("POST", PUBLIC_PATH, headers=through)
        assert (whole.status, whole.headers["X-Homelab-Probe"], whole.body) == (204, nonce, b"")
        outside = await site.ask("GET", PUBLIC_PATH, headers={**FUNNEL, "X-Homelab-Probe": nonce})
        assert (outside.status, outside.headers["X-Homelab-Probe"]) == (405, nonce)
        assert (await site.ask("GET", "/", headers=through)).status == 404
        assert (await site.ask("POST", PUBLIC_PATH, headers={**through, "Host": "strange.example"})).status == 421
        for guessed in (nonce[:-1], nonce + "x", "", "*"):
            answer = await site.ask("GET", PUBLIC_PATH, headers={**FUNNEL, "X-Homelab-Probe": guessed})
            assert answer.status == (405 if is_open else 503)
            assert "X-Homelab-Probe" not in answer.headers
    assert (await site.ask("GET", PUBLIC_PATH, headers=through)).status == (405 if is_open else 503)
    assert workshop.begun == []
    assert site.base.door.visits().requests == (5 if is_open else 0)


async def test_a_probe_does_not_get_through_where_there_is_no_webhook(tmp_path: Path) -> None:
    async with serving(tmp_path) as bare:
        with bare.base.door.probing() as nonce:
            through = {"Tailscale-Funnel-Request": "?1", "X-Homelab-Probe": nonce}
            assert (await bare.ask("POST", PUBLIC_PATH, headers=through)).status == 404


async def test_the_public_cannot_keep_out_the_probe_nor_anybody_else(tmp_path: Path, workshop: Workshop) -> None:
    crowded = WebSettings(listen="127.0.0.1:0", hosts=[HOST], max_connections=8)
    async with serving(tmp_path, [workshop.capability()], settings=crowded) as site:
        door = site.base.door
        door.open()
        async with lines(site, 6) as crowd:
            for one in crowd:
                one.send(request(FUNNEL, b"slow", length=1000))
            await until(lambda: len(workshop.begun) == 6, "the public has its share")
            for _ in range(3):
                assert (await site.send(request(FUNNEL, b"slow", length=1000))).startswith(b"HTTP/1.1 503 ")
            assert (await site.ask("GET", "/api/health/live")).status == 200
            assert (await site.ask("GET", "/api/health/live", headers=TAILNET)).status == 200
            with door.probing() as nonce:
                through = {"Tailscale-Funnel-Request": "?1", "X-Homelab-Probe": nonce}
                assert (await site.ask("POST", PUBLIC_PATH, headers=through)).status == 204
            assert len(workshop.begun) == 6
            workshop.go_on.set()
            crowd[0].send(b"x" * 996)
            assert (await soon(crowd[0].hear())).status == 200
            crowd[0].send(request(FUNNEL, b"again"))
            assert (await soon(crowd[0].hear())).status == 200


# What is left when it is shut.


async def test_a_head_that_comes_meanwhile_is_refused_when_it_is_complete(site: Site, workshop: Workshop) -> None:
    raw = request(FUNNEL, b"push")
    for cut in (1, 20, raw.index(b"\r\n\r\n") + 3):
        site.base.door.open()
        async with line(site) as caller:
            caller.send(raw[:cut])
            await caller.until_read(cut)
            site.base.door.shut()
            caller.send(raw[cut:])
            refused = await soon(caller.hear())
            assert (refused.status, refused.headers["connection"]) == (503, "close")
            assert await soon(caller.rest()) == b""
    assert workshop.begun == []


async def test_a_body_that_comes_meanwhile_is_taken_by_nobody(site: Site, workshop: Workshop) -> None:
    workshop.go_on.set()
    site.base.door.open()
    async with line(site) as caller:
        caller.send(request(FUNNEL, b"half", length=8))
        await until(lambda: workshop.begun, "it is waited for")
        site.base.door.shut()
        assert await soon(caller.rest()) == b""
    await site.until_connections(0)
    assert workshop.done == []


async def test_what_has_come_whole_is_worked_to_its_end_and_its_answer_is_cut(site: Site, workshop: Workshop) -> None:
    site.base.door.open()
    async with line(site) as caller:
        caller.send(request(FUNNEL, b"push"))
        await until(lambda: workshop.begun, "it is worked at")
        site.base.door.shut()
        assert await soon(caller.rest()) == b""
        workshop.go_on.set()
        await until(lambda: workshop.done, "it is done")
    assert workshop.done == [(Audience.PUBLIC, b"push")]
    assert site.base.door.visits() == Visits(requests=1, sources=1, sent_bytes=0)


@pytest.mark.parametrize("taken", [False, True])
async def test_an_answer_half_sent_is_cut(site: Site, workshop: Workshop, *, taken: bool) -> None:
    workshop.go_on.set()
    site.base.door.open()
    async with line(site) as caller:
        caller.send(request(FUNNEL, b"large"))
        await soon(caller.begins())
        came = asyncio.ensure_future(caller.rest()) if taken else None
        site.base.door.shut()
        assert len(await soon(caller.rest()) if came is None else await came) < LARGE
    assert site.base.door.visits().sent_bytes == 0


async def test_a_stream_is_cut_and_its_source_ended(site: Site, workshop: Workshop) -> None:
    workshop.go_on.set()
    site.base.door.open()
    async with line(site) as caller:
        caller.send(request(FUNNEL, b"stream"))
        await soon(caller.begins())
        site.base.door.shut()
        assert b"\r\n0\r\n\r\n" not in await soon(caller.rest())
    await until(lambda: workshop.streams_ended, "the source is ended")


async def test_a_refusal_whose_body_still_comes_is_cut(site: Site) -> None:
    site.base.door.open()
    async with line(site) as caller:
        caller.send(request(FUNNEL, b"x", path="/", length=1000))
        assert (await soon(caller.hear())).status == 404
        site.base.door.shut()
        assert caller.is_ended
        assert await soon(caller.rest()) == b""
        await site.until_connections(0)


@pytest.mark.parametrize("then", [FUNNEL, TAILNET, LOOPBACK])
async def test_a_connection_that_the_public_used_is_closed_when_it_is_idle(
    site: Site, workshop: Workshop, then: dict[str, str]
) -> None:
    workshop.go_on.set()
    site.base.door.open()
    async with line(site) as caller:
        for sender in (LOOPBACK, FUNNEL, then):
            caller.send(request(sender, b"x"))
            assert (await soon(caller.hear())).status == 200
        site.base.door.shut()
        assert await soon(caller.rest()) == b""


@pytest.mark.parametrize("sender", [TAILNET, LOOPBACK])
async def test_whoever_else_is_answered_over_a_connection_of_the_public_is_answered_whole(
    site: Site, workshop: Workshop, sender: dict[str, str]
) -> None:
    site.base.door.open()
    async with line(site) as caller:
        workshop.go_on.set()
        caller.send(request(FUNNEL, b"x"))
        assert (await soon(caller.hear())).status == 200
        workshop.go_on.clear()
        caller.send(request(sender, b"four", length=8))
        await until(lambda: len(workshop.begun) == 2, "the other is served")
        site.base.door.shut()
        caller.send(b"more")
        workshop.go_on.set()
        answer = await soon(caller.hear())
        assert (answer.status, answer.headers["connection"], answer.body) == (200, "close", b'{"bytes":8}')
        assert await soon(caller.rest()) == b""


async def test_an_answer_to_others_that_is_half_sent_over_a_connection_of_the_public_is_sent_whole(
    site: Site, workshop: Workshop
) -> None:
    workshop.go_on.set()
    site.base.door.open()
    async with line(site) as caller:
        caller.send(request(FUNNEL, b"x"))
        assert (await soon(caller.hear())).status == 200
        caller.send(request(TAILNET, b"large"))
        await soon(caller.begins())
        site.base.door.shut()
        assert len(await soon(caller.rest())) == LARGE


async def test_connections_that_the_public_never_used_stay_as_they_are(site: Site, workshop: Workshop) -> None:
    workshop.go_on.set()
    async with line(site) as idle, line(site) as busy, line(site) as silent:
        site.base.door.open()
        idle.send(request(TAILNET, b"x"))
        assert (await soon(idle.hear())).status == 200
        workshop.go_on.clear()
        busy.send(request(TAILNET, b"x"))
        await until(lambda: len(workshop.begun) == 2, "it is served")
        site.base.door.shut()
        workshop.go_on.set()
        assert (await soon(busy.hear())).status == 200
        for one in (idle, busy, silent):
            one.send(request(LOOPBACK, b"x"))
            answer = await soon(one.hear())
            assert (answer.status, answer.headers.get("connection")) == (200, None)


async def test_hundreds_of_connections_in_every_phase_are_ended_at_once(tmp_path: Path, workshop: Workshop) -> None:
    wide = WebSettings(listen="127.0.0.1:0", hosts=[HOST], max_connections=400)
    async with serving(tmp_path, [workshop.capability()], settings=wide) as site:
        site.base.door.open()
        async with lines(site, 256) as everyone:
            idle, bodies, working, others = (everyone[part::4] for part in range(4))
            workshop.go_on.set()
            for one in idle:
                one.send(request(FUNNEL, b"x"))
                assert (await soon(one.hear())).status == 200
            workshop.go_on.clear()
            for group, raw in (
                (bodies, request(FUNNEL, b"x", length=9)),
                (working, request(FUNNEL, b"x")),
                (others, request(TAILNET, b"x")),
            ):
                for one in group:
                    one.send(raw)
            await until(lambda: len(workshop.begun) == 256, "all are served")
            site.base.door.shut()
            assert sum(one.is_ended for one in everyone) == 192
            await site.until_connections(64)
            workshop.go_on.set()
            for one in others:
                assert (await soon(one.hear())).status == 200
        assert workshop.done.count((Audience.PUBLIC, b"x")) == 128


# The same, in any order.


@dataclass(slots=True)
class Room:
    """A site for many examples; each has a workshop of its own state."""

    runner: asyncio.Runner
    site: Site
    workshop: Workshop


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    workshop = Workshop()
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        served = serving(tmp_path_factory.mktemp("door"), [workshop.capability()])
        site = runner.run(stack.enter_async_context(served))
        yield Room(runner, site, workshop)
        workshop.go_on.set()
        runner.run(stack.aclose())


SENDERS = {"public": FUNNEL, "tailnet": TAILNET, "loopback": LOOPBACK}
WHO = st.sampled_from(sorted(SENDERS))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.lists(WHO, max_size=3), last=WHO, body=st.binary(max_size=20), place=st.floats(0, 1))
def test_wherever_a_request_is_when_the_door_is_shut_the_public_hears_nothing_and_the_others_all(
    room: Room, before: list[str], last: str, body: bytes, place: float
) -> None:
    raw = request(SENDERS[last], body)
    room.runner.run(_shut_at(room, before, last, raw, round(place * len(raw))))


async def _shut_at(room: Room, before: list[str], last: str, raw: bytes, cut: int) -> None:
    """Shut the door when `cut` bytes of the last request have come, and all that can be done with them is."""
    door, workshop = room.site.base.door, room.workshop
    workshop.begun.clear()
    workshop.done.clear()
    workshop.go_on.set()
    door.open()
    head = raw.index(b"\r\n\r\n") + 4
    async with line(room.site) as caller:
        for who in before:
            caller.send(request(SENDERS[who], b"x"))
            assert (await soon(caller.hear())).status == 200
        workshop.go_on.clear()
        caller.send(raw[:cut])
        if cut < head:
            await caller.until_read(cut)
        else:
            await until(lambda: len(workshop.begun) == len(before) + 1, "the handler has begun")
        door.shut()
        with contextlib.suppress(ConnectionError):
            caller.send(raw[cut:])
        workshop.go_on.set()
        heard: Callable[[], Coroutine[Any, Any, Heard]] = caller.hear
        was_public = "public" in before
        if (cut == 0 and was_public) or (cut >= head and last == "public"):
            assert await soon(caller.rest()) == b""
        elif last == "public":
            assert (await soon(heard())).status == 503
            assert await soon(caller.rest()) == b""
        else:
            answer = await soon(heard())
            assert (answer.status, answer.headers.get("connection")) == (200, "close" if was_public else None)
            if was_public:
                assert await soon(caller.rest()) == b""
    await room.site.until_connections(0)
    served = [who for who, _ in workshop.done]
    assert served.count(Audience.PUBLIC) <= before.count("public") + (last == "public" and cut == len(raw))
