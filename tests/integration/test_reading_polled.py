"""Sources that are asked over HTTP: what they hold comes once, and they are asked as they want to be."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
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
from homelab_agent.reading import decided, kinds
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


@dataclass
class Miniflux:
    """Answers as Miniflux does: by the time of the last change, sorted by id, so many at a time; it says its time."""

    held: list[Any]
    now: datetime = NOON + timedelta(hours=1)

    def __call__(self, request: web.Request) -> web.Response:
        query = request.query
        assert (query["status"], query["order"], query["direction"]) == ("read", "id", "asc")
        after, since = int(query.get("after_entry_id", 0)), int(query.get("changed_after", 0))
        until = int(query.get("changed_before", 2**40))
        found = [one for one in self.held if _number(one) > after and since < _changed(one) < until]
        body = json.dumps({"total": len(found), "entries": sorted(found, key=_number)[: int(query["limit"])]})
        return web.Response(
            text=body, headers={"Date": format_datetime(self.now, usegmt=True)}, content_type="application/json"
        )


def _number(entry: Any) -> int:
    return int(entry["id"])


def _changed(entry: Any) -> float:
    return datetime.fromisoformat(entry["changed_at"]).timestamp()


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
    server.usual = Miniflux(held)
    async with home(postgres, server, "miniflux", tmp_path) as library:
        assert (await library.sync()).tally.inserted == 250
        assert len(server.asked) == 3
        assert {request.headers["X-Auth-Token"] for request in server.asked} == {"key-1"}
        held += entries(*range(251, 256), at=NOON + timedelta(hours=1))
        ended = await library.sync()
        assert (ended.status, ended.tally.inserted) == ("ok", 5)
        [row] = await library.rows("SELECT reading_seconds FROM reading_per_day")
        assert row == {"reading_seconds": 255 * 240}
        window = Order(Window(NOON + timedelta(seconds=2), NOON + timedelta(seconds=5)))
        assert (await library.sync(window)).tally.duplicate == 3


async def test_an_entry_that_is_changed_after_it_was_read_is_no_other_reading(
    postgres: Postgres, server: Server, tmp_path: Path
) -> None:
    server.usual = answers = Miniflux(entries(1, 2))
    async with home(postgres, server, "miniflux", tmp_path) as library:
        await library.sync()
        answers.now += timedelta(hours=12)
        starred, edited = entries(1, 2, at=answers.now - timedelta(minutes=1))
        answers.held = [{**starred, "starred": True}, {**edited, "title": "Corrected"}]
        ended = await library.sync()
        assert (ended.status, str(ended.tally)) == ("ok", "inserted 0, duplicate 2, marked 0, rejected 0")
        rows = await library.rows("SELECT event_timestamp, payload ->> 'title' AS title FROM reading_analytics")
        assert {row["title"] for row in rows} == {"Entry 1", "Entry 2"}
        assert max(row["event_timestamp"] for row in rows) == NOON + timedelta(seconds=2)
        assert await library.count("reading_rejected") == 0


async def test_an_entry_that_was_mended_in_miniflux_is_taken_when_it_comes_again(
    postgres: Postgres, server: Server, tmp_path: Path
) -> None:
    [good] = entries(1)
    server.usual = answers = Miniflux([{**good, "title": "a\0b"}])
    async with home(postgres, server, "miniflux", tmp_path) as library:
        assert (await library.sync()).tally.rejected == 1
        answers.held = [{**good, "title": "a\0c", "changed_at": answers.now.isoformat()}]
        assert (await library.sync()).tally.skipped == 1
        answers.held = [{**good, "changed_at": answers.now.isoformat()}]
        ended = await library.sync()
        assert (ended.status, ended.tally.inserted) == ("ok", 1)
        assert await library.count("reading_rejected") == 0


async def test_a_dry_run_goes_on_where_the_last_run_ended(postgres: Postgres, server: Server, tmp_path: Path) -> None:
    server.usual = answers = Miniflux(entries(1, 2, 3))
    async with home(postgres, server, "miniflux", tmp_path) as library:
        assert (await library.sync(Order(dry_run=True))).tally.inserted == 3
        await library.sync()
        answers.held += entries(4, at=answers.now)
        dry = await library.sync(Order(dry_run=True))
        ended = await library.sync()
        assert str(dry.tally) == str(ended.tally) == "inserted 1, duplicate 0, marked 0, rejected 0"


async def test_what_changes_between_two_pages_comes_with_the_next_pass(
    postgres: Postgres, server: Server, tmp_path: Path
) -> None:
    answers = Miniflux(entries(*range(10, 260)), now=NOON + timedelta(hours=1))
    behind, before = entries(5, at=NOON + timedelta(hours=1))[0], answers.held[200]

    def second(request: web.Request) -> web.Response:
        """Have an entry read that the pages have gone by, and one changed that they have not come to."""
        answers.now += timedelta(seconds=10)
        answers.held.append(behind)
        before["changed_at"] = behind["changed_at"]
        return answers(request)

    server.answers, server.usual = [answers, second], answers
    async with home(postgres, server, "miniflux", tmp_path) as library:
        assert (await library.sync()).tally.inserted == 249
        assert len(server.asked) == 3
        answers.now += timedelta(hours=12)
        assert (await library.sync()).tally.inserted == 2
        assert await library.count("reading_analytics") == 251


async def test_what_was_read_after_a_pass_was_cut_comes_once_that_is_done(
    postgres: Postgres, server: Server, tmp_path: Path
) -> None:
    server.usual = answers = Miniflux(entries(*range(10, 260)))
    async with home(postgres, server, "miniflux", tmp_path) as library:
        run = library.new_run()
        run.on_progress = lambda _: run.cancelled.set()
        assert (await library.sync(run=run)).tally.inserted == 100
        answers.held += entries(5, at=answers.now + timedelta(hours=6))
        answers.now += timedelta(hours=12)
        assert (await library.sync()).tally.inserted == 151
        answers.now += timedelta(hours=12)
        assert (await library.sync()).tally.seen == 0


async def test_a_run_that_is_cut_between_pages_goes_on_there(
    postgres: Postgres, server: Server, tmp_path: Path
) -> None:
    server.usual = Miniflux(entries(*range(1, 251)))
    async with home(postgres, server, "miniflux", tmp_path) as library:
        run = library.new_run()
        run.on_progress = lambda _: run.cancelled.set()
        assert (await library.sync(run=run)).tally.inserted == 100
        assert (await library.sync()).tally.inserted == 150
        assert server.asked[1].query["after_entry_id"] == "100"


BAD_ENTRIES: list[Any] = [
    None,
    7,
    "text",
    ["list"],
    {},
    {"id": "8"},
    {"id": True},
    {"id": 10**400},
    {"id": "\0"},
    {"id": "\ud800"},
]
BAD_FIELDS: list[dict[str, Any]] = [
    {"changed_at": "9999-12-31T23:59:59-14:00"},
    {"changed_at": "0001-01-01T00:00:00+14:00"},
    {"changed_at": 10**300},
    {"feed": ["A journal"]},
    {"feed": {"title": {"a": 1}}},
    {"title": "a\0b"},
    {"title": "a\ud800b"},
    {"reading_time": 10**400},
    {"tags": [[math.nan]]},
    {"status": []},
]


async def test_entries_that_nobody_can_store_stop_no_other_in_miniflux(
    postgres: Postgres, server: Server, tmp_path: Path
) -> None:
    good = entries(*range(1, 101))
    spoiled = [{**one, **how} for one, how in zip(good, BAD_FIELDS, strict=False)]
    named = {**good[50], "a\0b": 1, "a\ud800b": 2}
    body = json.dumps({"entries": [*spoiled, *BAD_ENTRIES, named, *good[51:]]})
    server.answers, server.usual = [text(body)], Miniflux([])
    async with home(postgres, server, "miniflux", tmp_path) as library:
        ended = await library.sync()
        assert (ended.tally.inserted, ended.tally.rejected) == (50, len(BAD_FIELDS) + len(BAD_ENTRIES))
        assert ended.status == "partial"


async def test_entries_that_nobody_can_store_stop_no_other_in_a_feed(
    postgres: Postgres, server: Server, tmp_path: Path
) -> None:
    item = {"id": "1", "title": "First", "date_published": "2026-11-28T12:00:00Z"}
    items = [
        item,
        {**item, "id": "2", "date_published": "9999-12-31T23:59:59-14:00"},
        {**item, "id": "3\0"},
        {**item, "id": "4\ud800"},
        {**item, "id": "\U0001f600" * 1000},
        {**item, "id": None, "authors": "Ann", "tags": "essay"},
        {**item, "id": None, "url": ["https://example.org"], "title": "Another"},
        {**item, "id": "5", "title": "no utf-8"},
        *BAD_ENTRIES[:4],
    ]
    body = json.dumps({"title": "Links", "items": items}).encode().replace(b"no utf-8", b"no \xff\xfe")
    server.usual = lambda _: web.Response(body=body, headers={"ETag": '"\xe9"'}, content_type="application/json")
    async with home(postgres, server, "feed", tmp_path) as library:
        ended = await library.sync()
        assert (ended.status, ended.tally.inserted, ended.tally.rejected) == ("partial", 4, 8)
        assert (await library.sync()).tally.inserted == 0


@pytest.mark.parametrize(
    "time",
    ["Fri, 31 Dec 9999 23:59:59 -1400", "0000-01-01T00:00:00Z", "some day", "0001-01-01T00:00:00+14:00"],
)
async def test_a_time_at_the_edge_of_the_calendar_stops_no_feed(
    postgres: Postgres, server: Server, tmp_path: Path, time: str
) -> None:
    server.usual = text(RSS.replace("Sat, 28 Nov 2026 12:00:00 GMT", time))
    async with home(postgres, server, "feed", tmp_path) as library:
        ended = await library.sync()
        assert (ended.tally.inserted, ended.tally.rejected) == (1, 2)
        causes = await library.rows("SELECT cause FROM reading_rejected ORDER BY cause")
        assert [row["cause"] for row in causes] == ["date", "no_time"]


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
    server.answers, server.usual = [broken], Miniflux(entries(1, 2, 3))
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
    server.usual = Miniflux(entries(*range(1, 251)))
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


async def test_what_comes_only_once_cannot_be_tried_again_but_dropped(
    postgres: Postgres, server: Server, tmp_path: Path
) -> None:
    server.usual = text(RSS)
    async with home(postgres, server, "feed", tmp_path) as library:
        await library.sync()
        [outcome] = await library.decided().retry("shelf", ["shelf:none"])
        assert (outcome.done, outcome.detail) == (False, decided.NOT_GIVEN_AGAIN)
        assert outcome.repair == "homelab-agent reading rejected drop ID"
        assert [one.done for one in await library.decided().drop("shelf", ["shelf:none"])] == [True]
        assert await library.rows("SELECT state FROM reading_rejected") == [{"state": "dropped"}]


async def _batches(asked: Source) -> int:
    count = 0
    async with asked.open() as opened:
        async for _ in opened.batches({}, None):
            count += 1
    return count
