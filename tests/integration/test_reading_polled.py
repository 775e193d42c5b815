"""Sources that are asked over HTTP: what they hold comes once, and they are asked as they want to be."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from homelab_agent.core.clock import Clock, SystemClock
from homelab_agent.core.journal.redaction import Redactor
from homelab_agent.core.secret import Secrets
from homelab_agent.reading import kinds
from homelab_agent.reading.document import Window
from homelab_agent.reading.manners import FAILURES_MAX, USER_AGENT, retry_after
from homelab_agent.reading.order import Order
from homelab_agent.reading.settings import ReadingSettings, ReadingSource
from homelab_agent.reading.source import NotLetIn, Source, SourceRefuses, SourceUnreachable
from tests.clock import MovableClock, until
from tests.neighbours.postgres import Postgres
from tests.reading import NOON, Library, reached, write_password

Answering = Callable[[web.Request], web.StreamResponse]

RSS = """<?xml version="1.0"?><rss version="2.0"><channel><title>Shelf</title>
<item><guid>one</guid><title>First</title><link>https://example.org/1</link>
<pubDate>Sat, 28 Nov 2026 12:00:00 GMT</pubDate><category>essay</category></item>
<item><guid>two</guid><title>Second</title><link>https://example.org/2</link>
<pubDate>Sat, 28 Nov 2026 14:00:00 +0100</pubDate></item>
<item><guid>none</guid><title>Without a time</title></item></channel></rss>"""
ATOM = """<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"><title>Notes</title><id>urn:f</id>
<entry><id>urn:1</id><title>First</title><link href="https://example.org/1"/>
<updated>2026-11-28T12:00:00Z</updated><author><name>Ann</name></author></entry></feed>"""
JSON_FEED = json.dumps(
    {
        "version": "https://jsonfeed.org/version/1.1",
        "title": "Links",
        "items": [
            {"id": "1", "url": "https://example.org/1", "title": "First", "date_published": "2026-11-28T12:00:00Z"}
        ],
    }
)


@dataclass
class Server:
    """Answers as the test says, one after the other, and notes what it was asked."""

    answers: list[Answering] = field(default_factory=list)
    usual: Answering = lambda _: web.Response(status=404)
    asked: list[web.Request] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        return self.answers.pop(0)(request) if self.answers else self.usual(request)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    found = Server()
    application = web.Application()
    application.router.add_get("/{tail:.*}", found.handle)
    async with TestServer(application) as running:
        found.url = str(running.make_url("/"))
        yield found


def text(body: str, **headers: str) -> Answering:
    return lambda _: web.Response(text=body, headers=headers, content_type="application/xml")


def status(code: int, **headers: str) -> Answering:
    return lambda _: web.Response(
        status=code, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def source(server: Server, kind: str, directory: Path, clock: Clock | None = None, **more: Any) -> Source:
    """Return a source that asks the server, a hundred times a second at most."""
    password = write_password(directory / "api-key", "key-1")
    given = {"password": f"file:{password}"} if kind == "miniflux" else {}
    settings = ReadingSource(name="shelf", kind=kind, url=server.url, **{"rate": 100.0, **given, **more})
    return kinds.make(settings, ReadingSettings(batch=100), Secrets(Redactor()), clock or SystemClock())


@asynccontextmanager
async def home(postgres: Postgres, server: Server, kind: str, directory: Path) -> AsyncIterator[Library]:
    made = source(server, kind, directory)
    async with reached(postgres.url, directory, made, ReadingSource(name="shelf", url=server.url)) as library:
        yield library


def entries(*numbers: int, at: datetime = NOON) -> list[dict[str, Any]]:
    """Return entries as Miniflux tells them."""
    return [
        {
            "id": number,
            "feed_id": 3,
            "status": "read",
            "title": f"Entry {number}",
            "url": f"https://example.org/{number}",
            "author": "",
            "published_at": "2026-11-27T08:00:00Z",
            "changed_at": (at + timedelta(seconds=number)).isoformat(),
            "content": "<p>long</p>",
            "reading_time": 4,
            "starred": False,
            "tags": [],
            "feed": {"id": 3, "title": "A journal"},
        }
        for number in numbers
    ]


def miniflux(held: list[dict[str, Any]]) -> Answering:
    """Answer as Miniflux does: by the time of the last change, sorted by id, so many at a time."""

    def answer(request: web.Request) -> web.Response:
        query = request.query
        assert (query["status"], query["order"], query["direction"]) == ("read", "id", "asc")
        after, since = int(query.get("after_entry_id", 0)), int(query.get("changed_after", 0))
        until = int(query.get("changed_before", 2**40))
        times = {one["id"]: datetime.fromisoformat(one["changed_at"]).timestamp() for one in held}
        found = [one for one in held if one["id"] > after and since < times[one["id"]] < until]
        return web.json_response({"total": len(found), "entries": found[: int(query["limit"])]})

    return answer


@pytest.mark.parametrize(("body", "feed", "titles"), [(RSS, "Shelf", 2), (ATOM, "Notes", 1), (JSON_FEED, "Links", 1)])
async def test_a_feed_of_each_kind_becomes_rows(
    postgres: Postgres, server: Server, tmp_path: Path, body: str, feed: str, titles: int
) -> None:
    server.usual = text(body)
    async with home(postgres, server, "feed", tmp_path) as library:
        ended = await library.sync()
        assert (ended.tally.inserted, ended.tally.rejected) == (titles, 1 if feed == "Shelf" else 0)
        rows = await library.rows("SELECT * FROM reading_analytics ORDER BY event_timestamp")
        assert [row["event_timestamp"] for row in rows] == [NOON, NOON + timedelta(hours=1)][:titles]
        assert {(row["source"], row["event_type"]) for row in rows} == {(feed, "published")}
        assert json.loads(rows[0]["payload"])["url"] == "https://example.org/1"
        assert (await library.sync()).tally.inserted == 0


async def test_a_feed_that_has_not_changed_is_not_sent_again(
    postgres: Postgres, server: Server, tmp_path: Path
) -> None:
    changed = "Sat, 28 Nov 2026 12:00:00 GMT"
    server.answers = [
        lambda _: web.Response(text=ATOM, headers={"ETag": '"v1"', "Last-Modified": changed}),
        status(304),
    ]
    async with home(postgres, server, "feed", tmp_path) as library:
        assert (await library.sync()).tally.inserted == 1
        ended = await library.sync()
        assert (ended.status, ended.tally.seen) == ("ok", 0)
    first, second = server.asked
    assert "If-None-Match" not in first.headers
    assert (second.headers["If-None-Match"], second.headers["If-Modified-Since"]) == ('"v1"', changed)
    assert first.headers["User-Agent"] == USER_AGENT
    assert "gzip" in first.headers["Accept-Encoding"]


async def test_an_entry_that_was_edited_is_another_edition(postgres: Postgres, server: Server, tmp_path: Path) -> None:
    async with home(postgres, server, "feed", tmp_path) as library:
        server.usual = text(ATOM)
        await library.sync()
        server.usual = text(ATOM.replace("First", "First, corrected"))
        ended = await library.sync()
        assert (ended.status, ended.tally.inserted) == ("ok", 1)
        assert await library.count("reading_analytics") == 2


async def test_what_was_read_in_miniflux_comes_page_by_page_and_once(
    postgres: Postgres, server: Server, tmp_path: Path
) -> None:
    held = entries(*range(1, 251))
    server.usual = miniflux(held)
    async with home(postgres, server, "miniflux", tmp_path) as library:
        assert (await library.sync()).tally.inserted == 250
        assert len(server.asked) == 3
        assert {request.headers["X-Auth-Token"] for request in server.asked} == {"key-1"}
        held += entries(*range(251, 256))
        held[0] = entries(1, at=NOON + timedelta(hours=2))[0]
        ended = await library.sync()
        assert (ended.status, ended.tally.inserted) == ("ok", 6)
        [row] = await library.rows("SELECT reading_seconds FROM reading_per_day")
        assert row == {"reading_seconds": 256 * 240}
        window = Order(Window(NOON, NOON + timedelta(hours=1)))
        assert (await library.sync(window)).tally.duplicate == 254


async def test_a_run_that_is_cut_between_pages_goes_on_there(
    postgres: Postgres, server: Server, tmp_path: Path
) -> None:
    server.usual = miniflux(entries(*range(1, 251)))
    async with home(postgres, server, "miniflux", tmp_path) as library:
        run = library.new_run()
        run.on_progress = lambda _: run.cancelled.set()
        assert (await library.sync(run=run)).tally.inserted == 100
        assert (await library.sync()).tally.inserted == 150
        assert server.asked[1].query["after_entry_id"] == "100"


BROKEN: list[tuple[str, Answering]] = [
    ("an error", status(500)),
    ("too many requests", status(429, Retry_After="0")),
    ("a page of a proxy", text("<html>busy</html>")),
    ("half an answer", lambda _: web.Response(body=b'{"entries": [{"id": 1', content_type="application/json")),
    ("no entries", lambda _: web.json_response({"error": "?"})),
    ("a body that is no gzip", lambda _: web.Response(body=b"xx", headers={"Content-Encoding": "gzip"})),
]


@pytest.mark.parametrize(("what", "broken"), BROKEN, ids=[what for what, _ in BROKEN])
async def test_an_answer_that_is_broken_is_asked_for_again(
    postgres: Postgres, server: Server, tmp_path: Path, what: str, broken: Answering
) -> None:
    server.answers, server.usual = [broken], miniflux(entries(1, 2, 3))
    async with home(postgres, server, "miniflux", tmp_path) as library:
        ended = await library.sync()
        assert (ended.status, ended.tally.inserted) == ("ok", 3)
    assert len(server.asked) == 2


async def test_an_answer_that_is_packed_is_unpacked(server: Server, tmp_path: Path) -> None:
    body = gzip.compress(ATOM.encode())
    server.usual = lambda _: web.Response(body=body, headers={"Content-Encoding": "gzip"})
    assert await _batches(source(server, "feed", tmp_path)) == 1


@pytest.mark.parametrize(
    ("code", "error"), [(401, NotLetIn), (403, NotLetIn), (404, SourceRefuses), (302, SourceRefuses)]
)
async def test_what_will_not_be_better_is_said(
    server: Server, tmp_path: Path, code: int, error: type[Exception]
) -> None:
    server.usual = status(code, Location="http://elsewhere.example/")
    with pytest.raises(error, match=str(code)):
        await _batches(source(server, "miniflux", tmp_path))


async def test_a_server_that_wants_to_be_left_alone_is_left_alone(server: Server, tmp_path: Path) -> None:
    clock = MovableClock()
    server.answers, server.usual = [status(429, Retry_After="3600")], text(ATOM)
    asking = source(server, "feed", tmp_path, clock)
    with pytest.raises(SourceUnreachable, match="429"):
        await _batches(asking)
    with pytest.raises(SourceUnreachable, match="left alone for another 3600 s"):
        await _batches(asking)
    assert len(server.asked) == 1
    await clock.advance(3600)
    assert await _batches(asking) == 1


async def test_a_server_that_fails_again_and_again_is_left_alone_for_a_while(server: Server, tmp_path: Path) -> None:
    clock = MovableClock()
    server.usual = status(500)
    asking = source(server, "feed", tmp_path, clock)
    for _ in range(FAILURES_MAX):
        with pytest.raises(SourceUnreachable, match="500"):
            await _batches(asking)
        await clock.advance(1)
    with pytest.raises(SourceUnreachable, match="left alone"):
        await _batches(asking)
    assert len(server.asked) == FAILURES_MAX


async def test_requests_keep_their_distance(server: Server, tmp_path: Path) -> None:
    clock = MovableClock()
    server.usual = miniflux(entries(*range(1, 251)))
    asking = asyncio.ensure_future(_batches(source(server, "miniflux", tmp_path, clock, rate=0.1)))
    for number in (1, 2, 3):
        await until(lambda: len(server.asked) == number, "the next request has come")  # noqa: B023
        if number < 3:
            await until(lambda: clock.sleepers, "it waits before the next")
            await clock.advance(9.7)
            assert len(server.asked) == number
            await clock.advance(0.4)
    assert await asking == 3


def test_retry_after_is_understood_in_both_forms() -> None:
    now = datetime(2026, 11, 28, 12, tzinfo=UTC)
    assert retry_after("120", now) == 120
    assert retry_after(format_datetime(now + timedelta(minutes=2), usegmt=True), now) == 120
    assert retry_after(format_datetime(now - timedelta(minutes=2), usegmt=True), now) == 0
    assert retry_after("", now) is retry_after("soon", now) is retry_after("-1", now) is None


async def _batches(asked: Source) -> int:
    count = 0
    async with asked.open() as opened:
        async for _ in opened.batches({}, None):
            count += 1
    return count
