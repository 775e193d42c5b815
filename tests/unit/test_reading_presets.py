"""What a preset makes of an answer: each entry is a row or a rejection that PostgreSQL takes, whatever it holds."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homelab_agent.reading import bson_document, document, safe_json
from homelab_agent.reading.document import KEY_BYTES_MAX, Document, Rejected, Window
from homelab_agent.reading.feed import Feed
from homelab_agent.reading.miniflux import Miniflux
from homelab_agent.reading.polling import Malformed, Page, Preset, Told
from homelab_agent.reading.settings import ReadingSource

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
MINIFLUX = Miniflux(ReadingSource(name="shelf", kind="miniflux", url="http://localhost"), page=100)
FEED = Feed(ReadingSource(name="shelf", kind="feed", url="http://localhost"))

_TEXTS = (
    st.text() | st.text(st.characters(categories=["Cs", "Cc", "L"])) | st.sampled_from(["\0", "\ud800", "😀" * 900])
)
_TIMES = st.sampled_from(
    [
        "2026-11-28T12:00:00Z",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00+14:00",
        "0000-00-00",
        "Fri, 31 Dec 9999 23:59:59 -1400",
        "Mon, 01 Jan 0001 00:00:00 +1400",
        "Sat, 28 Nov 2026 12:00:00 GMT",
    ]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS | _TIMES | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=8,
)


def objects(*names: str, texts: str) -> st.SearchStrategy[Any]:
    """Give values, most of them objects with some of these names; `texts` is usually one."""
    usual = dict.fromkeys(names, _VALUES) | {texts: _TIMES | _VALUES}
    return _VALUES | st.fixed_dictionaries({}, optional=usual)


def page(preset: Preset, body: bytes, window: Window | None = None, **cursor: Any) -> Page:
    return preset.page(Told({}, body, NOON), cursor, window)


def check_storable(found: Page, count: int | None) -> None:
    """Check that PostgreSQL takes all of it."""
    assert count is None or len(found.arrived) == count
    json.dumps(found.cursor).encode()
    for one in found.arrived:
        assert len(one.key.encode()) <= KEY_BYTES_MAX + 100
        said = [one.key]
        if isinstance(one, Document):
            assert one.at.tzinfo is UTC
            said += [one.source, one.event_type, one.payload, one.meta, *one.keys]
            json.loads(one.payload, parse_constant=pytest.fail)
        else:
            said += [one.detail, one.raw]
        for text in said:
            text.encode()
            assert "\0" not in text
        assert "\\u0000" not in "".join(said[1:5]) or isinstance(one, Rejected)


@given(st.lists(objects("id", "title", "feed", "status", "tags", "feed_id", texts="changed_at"), max_size=4))
def test_any_entry_of_miniflux_is_a_row_or_a_rejection(entries: list[Any]) -> None:
    check_storable(page(MINIFLUX, json.dumps({"entries": entries}).encode()), len(entries))


@given(
    st.lists(objects("id", "url", "title", "authors", "tags", "summary", texts="date_published"), max_size=4), _VALUES
)
def test_any_item_of_a_json_feed_is_a_row_or_a_rejection(items: list[Any], title: Any) -> None:
    check_storable(page(FEED, json.dumps({"title": title, "items": items}).encode()), len(items))


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(("guid", "title", "link", "author"), _TEXTS)
            | dict.fromkeys(("pubDate", "updated"), _TIMES | _TEXTS),
        ),
        max_size=3,
    )
)
def test_any_item_of_an_rss_feed_is_a_row_or_a_rejection(items: list[Mapping[str, str]]) -> None:
    said = "".join(
        "<item>" + "".join(f"<{name}>{escape(value)}</{name}>" for name, value in one.items()) + "</item>"
        for one in items
    )
    body = f'<rss version="2.0"><channel><title>Shelf</title>{said}</channel></rss>'
    with contextlib.suppress(Malformed):
        check_storable(page(FEED, body.encode("utf-8", "surrogatepass")), None)


@pytest.mark.parametrize("reference", ["&#0;", "&#xD800;", "&#xdfff", "&#1114112;", "&#99999999999999999999;", "&#x;"])
def test_a_reference_to_a_character_that_there_is_not_stops_no_feed(reference: str) -> None:
    entries = "".join(
        f"<item><guid>{number}</guid><title>{title}</title><pubDate>Sat, 28 Nov 2026 12:00:00 GMT</pubDate></item>"
        for number, title in enumerate(["First", f"Second {reference}", "Third &#233;"])
    )
    found = page(FEED, f"<rss version='2.0'><channel><title>Shelf</title>{entries}</channel></rss>".encode())
    check_storable(found, 3)
    first, _, third = found.arrived
    assert isinstance(first, Document)
    assert isinstance(third, Document)
    assert json.loads(third.payload)["title"] == "Third é"


@given(st.binary() | _VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_answer_is_a_page_or_malformed(body: bytes) -> None:
    for preset in (MINIFLUX, FEED):
        with contextlib.suppress(Malformed):
            check_storable(page(preset, body), None)


@given(_TEXTS, _TEXTS)
def test_ids_that_differ_have_keys_that_differ(one: str, other: str) -> None:
    for key_of in (document.short_key, bson_document.key_of):
        assert (key_of(one) == key_of(other)) == (one == other)


def test_json_that_holds_what_is_none_spoils_only_that() -> None:
    found = safe_json.read(b'\xef\xbb\xbf{"a": "\xff", "b": 1' + b"0" * 5000 + b', "c": 1}')
    assert found == {"a": "\udcff", "b": float("inf"), "c": 1}


def test_an_entry_that_is_nested_too_deeply_is_rejected() -> None:
    body = json.dumps({"entries": [{"id": 1, "changed_at": NOON.isoformat(), "tags": None}, {"id": 2}]})
    deep = body.replace("null", "[" * 900 + "]" * 900)
    found = page(MINIFLUX, deep.encode())
    assert [one.cause for one in found.arrived if isinstance(one, Rejected)] == ["undecodable", "no_time"]


def test_a_pass_of_miniflux_is_over_what_was_changed_before_it_began() -> None:
    full = json.dumps({"entries": [{"id": number} for number in range(1, 101)]}).encode()
    began = int(NOON.timestamp())
    first = page(MINIFLUX, full, changed_after=5)
    assert first.more
    assert first.cursor == {"changed_after": 5, "changed_before": began, "after_entry_id": 100}
    assert MINIFLUX.ask(first.cursor, None).query["changed_before"] == str(began)
    last = page(MINIFLUX, b'{"entries": null}', **first.cursor)
    assert (last.more, set(last.cursor)) == (False, {"changed_after"})
    assert 0 < began - last.cursor["changed_after"] < 3600
    late = page(MINIFLUX, b'{"entries": []}', **{**first.cursor, "changed_before": began - 3600})
    assert late.more


def test_a_page_of_miniflux_that_leads_nowhere_is_malformed() -> None:
    for entries in ([{"id": 7}] * 100, [None] * 100):
        with pytest.raises(Malformed):
            page(MINIFLUX, json.dumps({"entries": entries}).encode(), after_entry_id=7)


def test_a_window_of_miniflux_holds_what_lies_on_its_beginning() -> None:
    window = Window(NOON, NOON + timedelta(seconds=1.5))
    asked = MINIFLUX.ask({}, window).query
    assert (asked["changed_after"], asked["changed_before"]) == (
        str(int(NOON.timestamp()) - 1),
        str(int(NOON.timestamp()) + 2),
    )
    times = [NOON - timedelta(seconds=0.5), NOON, NOON + timedelta(seconds=1), NOON + timedelta(seconds=1.5)]
    entries = [{"id": number, "changed_at": at.isoformat()} for number, at in enumerate(times, 1)]
    found = page(MINIFLUX, json.dumps({"entries": entries}).encode(), window)
    assert [one.key for one in found.arrived] == ["shelf:2", "shelf:3"]
