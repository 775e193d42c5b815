"""Ten thousand random requests to every route: no 5xx, no traceback, and the memory stays where it was."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from homelab_agent.core.capability import Capability
from homelab_agent.core.http import Answer, Audience, Json, Request, Route
from homelab_agent.core.jobs.run import Job, Outcome, Run
from homelab_agent.web.settings import WebSettings
from tests.website import HOST, Site, serving

SEED = int(os.environ.get("HOMELAB_TEST_SEED", "20261124"))
REQUESTS = 10_000
WORKERS = 4
GROWTH_BYTES = 12 * 2**20
METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW")
TOKENS = ("Bearer ", "Bearer x", "bearer hla_" + "A" * 43, "Basic dXNlcjpwdw==", "Bearer \xff", "")
BODIES = (
    b"",
    b"{}",
    b"null",
    b'{"name": "a"}',
    b'{"name": 7}',
    b"token=x",
    b"token=%ff&token=%00",
    b'{"token": ["x"]}',
    b"[" * 3000,
    b"\xff\xfe\x00",
    b"x" * 70_000,
)
SEGMENTS = (
    "",
    ".",
    "..",
    "%2e%2e",
    "%00",
    "%ff",
    "%F0%9F%8D%95",
    "a" * 300,
    "{id}",
    "{name}",
    "x;y",
    "019a",
    "work",
    "~",
)


async def work(_run: Run) -> Outcome:
    return Outcome(ok=True, detail="done")


async def echo(request: Request) -> Answer:
    return Json({"bytes": sum([len(chunk) async for chunk in request.chunks()]), "said": dict(request.query)})


async def reload() -> object:
    return {"applied": [], "needs_restart": []}


WORKSHOP = Capability(
    name="workshop",
    jobs=[Job("work", work, deadline=5)],
    routes=[Route("POST", "/api/webhook/gitops", echo, audience=Audience.PUBLIC, login=False)],
)


@dataclass(frozen=True, slots=True)
class Sent:
    """One request as bytes, and what must be known to judge its answer."""

    raw: bytes
    method: str
    path: str
    public: bool
    unix: bool


class Inventor:
    """Makes requests up, the same for the same seed."""

    def __init__(self, site: Site, token: str) -> None:
        self._dice = random.Random(SEED)
        self._routes = [(route.method, route.path) for route in (*site.web.routes, *WORKSHOP.routes)]
        self._routes.append(("POST", "/api/jobs/work/run"))
        self._token = token

    def request(self) -> Sent:
        dice = self._dice
        method, path = dice.choice(self._routes)
        path = self._mangle(path)
        if dice.random() < 0.3:
            method = dice.choice(METHODS)
        headers, public = self._headers()
        body = dice.choice(BODIES) if method != "GET" or dice.random() < 0.1 else b""
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        lines.append(f"Content-Length: {len(body)}")
        raw = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
        return Sent(raw, method, path, public, unix=dice.random() < 0.2)

    def _mangle(self, path: str) -> str:
        dice = self._dice
        segments = path.split("/")
        if dice.random() < 0.3:
            place = dice.randrange(1, len(segments))
            segments[place] = dice.choice(SEGMENTS)
        if dice.random() < 0.05:
            segments.append(dice.choice(SEGMENTS))
        query = dice.choice(
            ("", "", "?limit=5", "?limit=%", "?link=x", "?job=%ff", "?" + "&" * 90, "?v=1&v=2", "?=", "??")
        )
        return "/".join(segments) + query

    def _headers(self) -> tuple[list[tuple[str, str]], bool]:
        dice = self._dice
        headers: list[tuple[str, str]] = []
        hosts = ("127.0.0.1:8085", "localhost", HOST, "[::1]")
        host = dice.choice(hosts if dice.random() < 0.9 else ("evil.example", "", "a b"))
        headers += [("Host", host)] * dice.choices((1, 0, 2), (30, 1, 1))[0]
        tailnet = dice.random() < 0.4
        public = tailnet and dice.random() < 0.2
        if tailnet:
            address = f"100.64.{dice.randrange(256)}.{dice.randrange(256)}"
            headers.append(("X-Forwarded-For", "198.51.100.7" if public else address))
        if dice.random() < 0.5:
            junk = tailnet and dice.random() < 0.3
            headers.append(("Authorization", dice.choice(TOKENS) if junk else self._token))
        for name, values, chance in (
            ("Accept", ("text/html", "*/*", "\xff"), 0.15),
            ("Cookie", ("homelab_agent_session=x", "=;;=", "\xff" * 50), 0.2),
            ("Origin", ("null", f"https://{HOST}", "https://evil.example"), 0.15),
            ("Sec-Fetch-Site", ("cross-site", "same-origin"), 0.1),
            ("Content-Type", ("application/json", "application/x-www-form-urlencoded", "\xff/\xff"), 0.3),
            ("Content-Encoding", ("gzip", "identity"), 0.05),
            ("Last-Event-ID", ("x", "\xff"), 0.1),
            ("If-None-Match", ('"x"', "*"), 0.05),
            ("Expect", ("100-continue", "200-ok"), 0.05),
            ("Tailscale-User-Login", ("me@example.org", "=?x?q?=FF?=", "\xff"), 0.1),
            ("X_Forwarded_For", ("198.51.100.7",), 0.1),
            ("Upgrade", ("websocket",), 0.02),
        ):
            if dice.random() < chance:
                headers.append((name, dice.choice(values)))
        return headers, public


class Line:
    """One connection at a time, opened anew whenever the server has closed it."""

    def __init__(self, site: Site, *, unix: bool) -> None:
        self._site = site
        self._unix = unix
        self._ends: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, sent: Sent) -> tuple[int, bytes]:
        reader, writer = self._ends or await self._open()
        writer.write(sent.raw)
        status, headers = await self._head(reader)
        if status == 100:
            status, headers = await self._head(reader)
        body = b""
        if "event-stream" in headers.get("content-type", ""):
            self.close()
            return status, body
        if sent.method != "HEAD" and status not in {204, 304}:
            body = await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.close()
        return status, body

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        path = self._site.directory / "agent.sock"
        self._ends = await (asyncio.open_unix_connection(path) if self._unix else self._site.connect())
        return self._ends

    async def _head(self, reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
        first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest if line)}
        if first.startswith("HTTP/1.0"):  # what could not be parsed is answered so, and then closed
            headers["connection"] = "close"
        return int(first.split()[1]), headers

    def close(self) -> None:
        if self._ends is not None:
            self._ends[1].close()
            self._ends = None


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    settings = WebSettings(listen="127.0.0.1:0", hosts=[HOST])
    async with serving(tmp_path, [WORKSHOP], settings=settings, reload=reload) as site:
        site.base.door.open()
        yield site


async def fire(site: Site, inventor: Inventor, number: int) -> dict[int, int]:
    """Send `number` requests; return how often each status came back."""
    seen: dict[int, int] = {}
    left = iter(range(number))

    async def worker() -> None:
        lines = {unix: Line(site, unix=unix) for unix in (False, True)}
        for _ in left:
            sent = inventor.request()
            status, body = await asyncio.wait_for(lines[sent.unix].ask(sent), 30)
            seen[status] = seen.get(status, 0) + 1
            assert status < 500, (status, body, sent)
            assert b"Traceback" not in body, sent
            if sent.public and not sent.unix and status == 200:
                assert sent.path.startswith("/api/webhook/gitops"), sent
        for line in lines.values():
            line.close()

    await asyncio.gather(*(worker() for _ in range(WORKERS)))
    return seen


def resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


@pytest.mark.timeout(180)
async def test_ten_thousand_random_requests(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    accidents: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: accidents.append(context))
    inventor = Inventor(site, (await site.token())["Authorization"])
    seen = await fire(site, inventor, REQUESTS // 4)
    before = resident()
    for status, times in (await fire(site, inventor, REQUESTS - REQUESTS // 4)).items():
        seen[status] = seen.get(status, 0) + times
    grown = resident() - before
    print(json.dumps(seen, sort_keys=True), f"grown by {grown / 2**20:.1f} MiB")
    assert grown < GROWTH_BYTES
    assert accidents == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert {200, 201, 202, 400, 401, 403, 404, 405, 413, 415, 421} <= set(seen)
    assert (await site.ask("GET", "/api/health/live")).status == 200


async def test_a_thousand_mangled_requests(site: Site) -> None:
    dice = random.Random(SEED)
    inventor = Inventor(site, "Bearer x")
    for _ in range(1000):
        raw = bytearray(inventor.request().raw[:2000])
        for _ in range(dice.randrange(1, 8)):
            raw[dice.randrange(len(raw))] = dice.randrange(256)
        reader, writer = await site.connect()
        writer.write(raw)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 20) if b"/events" not in raw else b""
        writer.close()
        assert b"Traceback" not in answer, bytes(raw)
        assert not answer.startswith((b"HTTP/1.1 5", b"HTTP/1.0 5")), (answer, bytes(raw))
    assert (await site.ask("GET", "/api/health/live")).status == 200
